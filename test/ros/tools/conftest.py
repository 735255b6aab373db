"""Fixtures of the bag tools' tests."""

from bag_process import drive as drive
from bag_process import start as start
