"""Pictures: labelled points over camera images and from above, costs; and the Rerun stream of the running system.

Pictures are plain numpy RGB images, written with ``canvas.save``.
"""
