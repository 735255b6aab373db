"""Every error a user can cause. Each message names the cause and, after it, the remedy."""

from __future__ import annotations


class Ov3dError(Exception):
    """Base of all errors with a known cause; ``str(error)`` is "<cause>. <remedy>."."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause.rstrip('.')}. {remedy.rstrip('.')}.")
        self.cause = cause
        self.remedy = remedy


class CalibrationError(Ov3dError):
    """Missing, zero, or inconsistent camera intrinsics or extrinsics."""


class TransformError(Ov3dError):
    """No transform between two frames, or one too old for the data's stamp."""


class PointCloudError(Ov3dError):
    """A point cloud that cannot be read: layout, fields, truncated data, nothing finite."""


class ImageError(Ov3dError):
    """An image of unknown encoding, or one that does not decode."""


class DatasetError(Ov3dError):
    """A data set folder with missing or inconsistent files; all of them are listed."""


class RecipeError(Ov3dError):
    """A recipe or a table of rows with an unknown, wrong or unused option; the option is named."""


class BagError(Ov3dError):
    """A bag that is missing, truncated, or lacks a needed topic."""


class NoPosesError(DatasetError):
    """A recording in which no scan has a pose in the fixed frame."""


class DamagedBagError(BagError):
    """A bag whose bytes are cut off or wrong: a part of it may be saved."""


class OdometryError(Ov3dError):
    """LiDAR odometry that cannot be computed, or that failed on a scan."""


class EncoderError(Ov3dError):
    """An image-text encoder that cannot be built or whose weights do not load."""


class IdentityError(Ov3dError):
    """Features, text, checkpoint or map of two different encoders were about to be mixed."""


class UnknownWordError(Ov3dError):
    """A word outside the stored text bank, and no text tower to embed it. near: words of the bank that are close."""

    def __init__(self, cause: str, remedy: str, near: tuple[str, ...] = ()) -> None:
        super().__init__(cause, remedy)
        self.near = near


class VocabularyError(Ov3dError):
    """A list of classes that is empty, names a class twice or without a word, or is a string."""


class TeachingError(Ov3dError):
    """Examples that a word cannot be taught from."""


class ResourceError(Ov3dError):
    """Too little memory for what was asked."""


class BackendError(Ov3dError):
    """A sparse convolution backend that is unknown, not installed, or cannot serve the device."""


class CheckpointError(Ov3dError):
    """A checkpoint that is missing, corrupted, or not one of ours."""


class WriteError(Ov3dError):
    """A file cannot be written: the disk is full, the folder is missing or may not be written to."""


class MapError(Ov3dError):
    """A semantic map that cannot be made, or that does not take features or a grid of this size."""


class MessageError(Ov3dError):
    """A ROS message whose fields contradict each other, or of an unknown encoding."""


class MapFileError(Ov3dError):
    """A map file that is missing, damaged, of another format or version, or that cannot be written."""


class LedgerError(Ov3dError):
    """A site's folder without a ledger, or one whose ledger or networks are not as they were written."""
