# The executables of this package, ov3d among them, are on the path of a shell that sources the workspace.
_colcon_prepend_unique_value PATH "$COLCON_CURRENT_PREFIX/lib/ov3d_perception"
