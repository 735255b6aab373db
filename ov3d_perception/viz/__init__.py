"""Pictures: labelled points over camera images and from above. Plain numpy RGB images, written with `save`."""
