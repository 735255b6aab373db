"""From images to points: the image teacher and which pixels speak of which points."""
