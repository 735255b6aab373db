# Build an interface package with pip against the ROS 2 wheels of PyPI. Included before the first find_package; under
# colcon it is not used at all.

# 1. The wheels lay their share/ folders beside lib/pythonX.Y/site-packages: find that prefix through Python itself,
#    which is right in a virtual environment and in pip's isolated build environment alike.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
execute_process(
  COMMAND "${Python3_EXECUTABLE}" -c "import pathlib, rosidl_pycommon as m; print(pathlib.Path(m.__file__).parents[4])"
  OUTPUT_VARIABLE ros_prefix OUTPUT_STRIP_TRAILING_WHITESPACE
  RESULT_VARIABLE failed
)
if(failed)
  message(FATAL_ERROR "The ROS 2 wheels are missing. Install those that pyproject.toml names under `requires`.")
endif()
list(PREPEND CMAKE_PREFIX_PATH "${ros_prefix}")
set(ENV{AMENT_PREFIX_PATH} "${ros_prefix}")

# 2. The wheels export include folders of the machine they were built on, and CMake refuses to use a target with a
#    folder that does not exist: drop those, once all targets are known.
function(drop_missing_include_directories)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(folders)
      set(existing "")
      foreach(folder IN LISTS folders)
        if(folder MATCHES "^\\$<" OR EXISTS "${folder}")
          list(APPEND existing "${folder}")
        endif()
      endforeach()
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${existing}")
    endif()
  endforeach()
endfunction()
cmake_language(DEFER CALL drop_missing_include_directories)
