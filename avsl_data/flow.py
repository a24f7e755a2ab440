"""Optical flow of a picture to the next one of its clip, for methods that see what moves.

Published preprocessing (Hear The Flow) takes Farneback's flow at full resolution, and writes each direction
as an 8-bit picture, by which motion to the left and up becomes 0 and the rest is rounded. Here the flow is
kept with its signs: a PNG of 16 bits per channel as KITTI stores flow, and `published_flow` makes the
published form of it.

A displacement is in pixels of the decoded picture, turned upright, per picture: resizing a flow resamples the
field and leaves its values alone, as published loading does.

Shape letters: H x W pixels; the last axis of a flow is x (to the right), y (down).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from avsl_data.errors import DataInputError

if TYPE_CHECKING:
    import av
    import numpy as np
    from numpy.typing import NDArray

FARNEBACK: Final[dict[str, Any]] = {
    "pyr_scale": 0.5,
    "levels": 3,
    "winsize": 15,
    "iterations": 3,
    "poly_n": 5,
    "poly_sigma": 1.2,
    "flags": 0,
}
"""Of the published preprocessing [code]."""

STEPS_PER_PIXEL: Final = 64
ZERO: Final = 2**15
"""KITTI's format: a displacement d is stored as 64 d + 2^15, which reaches from -512 to 512 pixels."""

PNG_COMPRESSION: Final = 6


def opencv() -> Any:
    """Import OpenCV.

    Returns
    -------
    module
        ``cv2``.

    Raises
    ------
    DataInputError
        If it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise DataInputError(
            f"optical flow needs OpenCV ({error}): pip install 'avsl-toolkit[flow]', or leave out --flow"
        ) from error
    return cv2


def optical_flow(
    frame: av.VideoFrame, following: av.VideoFrame, width: int, height: int
) -> NDArray[np.float32] | None:
    """Return the flow from a picture to the next one.

    Parameters
    ----------
    frame, following
        Decoded pictures; both are turned upright as the first one says.
    width, height
        To resample the field to, by the mean of the displacements that a pixel covers; in pixels.

    Returns
    -------
    ndarray [height, width, 2] of float32 or None
        Displacements in pixels of the decoded picture; None if the pictures differ in size.

    Raises
    ------
    DataInputError
        If OpenCV is not installed.
    """
    cv2 = opencv()
    if (frame.width, frame.height) != (following.width, following.height):
        return None
    # Threads would divide the sums of a window otherwise on each machine; workers share its cores anyway.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        grey = [_grey(picture, frame.rotation) for picture in (frame, following)]
        whole = cv2.calcOpticalFlowFarneback(*grey, None, **FARNEBACK)
        flow: NDArray[np.float32] = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
    finally:
        cv2.setNumThreads(threads)
    return flow


def _grey(frame: av.VideoFrame, rotation: int) -> NDArray[np.uint8]:
    """Return a picture's brightness as OpenCV's reader of videos and its conversion give it, upright."""
    import numpy as np
    from PIL import Image

    cv2 = opencv()
    grey: NDArray[np.uint8] = cv2.cvtColor(frame.to_ndarray(format="rgb24"), cv2.COLOR_RGB2GRAY)
    return np.asarray(Image.fromarray(grey).rotate(rotation, expand=True)) if rotation % 360 else grey


def encode_flow(flow: NDArray[np.float32]) -> bytes:
    """Return a flow as a PNG in KITTI's format: red is x, green is y, blue is 1 (valid).

    Parameters
    ----------
    flow : ndarray [H, W, 2]
        Displacements; kept to 1/64 pixel, beyond -512 and 511.98 as these bounds.

    Returns
    -------
    bytes
        The file.
    """
    import numpy as np

    steps = np.clip(np.rint(flow * STEPS_PER_PIXEL) + ZERO, 0, 2**16 - 1).astype(np.uint16)
    blue_green_red = np.dstack([np.ones_like(steps[..., 0]), steps[..., 1], steps[..., 0]])  # OpenCV's order
    cv2 = opencv()
    _, content = cv2.imencode(".png", blue_green_red, [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])
    return bytes(content)


def decode_flow(content: bytes) -> NDArray[np.float32]:
    """Return the flow of a stored PNG.

    Parameters
    ----------
    content
        The file, from a shard's column ``flow``.

    Returns
    -------
    ndarray [H, W, 2] of float32
        Displacements, exact multiples of 1/64.

    Raises
    ------
    DataInputError
        If it is no PNG in KITTI's format, or OpenCV is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> decode_flow(encode_flow(np.full((2, 3, 2), -1.5, np.float32)))[0, 0].tolist()
    [-1.5, -1.5]
    """
    import numpy as np

    cv2 = opencv()
    stored = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) if content else None
    if stored is None or stored.dtype != np.uint16 or stored.ndim != 3 or stored.shape[2] != 3:
        raise DataInputError("this is no optical flow as a PNG of three channels of 16 bits")
    steps = stored[..., :0:-1].astype(np.float32)
    flow: NDArray[np.float32] = (steps - ZERO) / STEPS_PER_PIXEL
    return flow


def published_flow(flow: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a flow as the published preprocessing stores it: rounded, and 0 where it is negative.

    Parameters
    ----------
    flow : ndarray [H, W, 2]
        Displacements.

    Returns
    -------
    ndarray [H, W, 2] of uint8
        The pictures ``flow_x`` and ``flow_y``; a loader divides them by 255.

    Notes
    -----
    Published files are of full resolution and JPEGs. Resized to 224 x 224 as published loading does, flows of
    real clips differ from theirs by at most 2 of 255, and by less than 0.03 in the mean. Without JPEG, and
    where the stored frame is not scaled down, a value differs only if it lies within 1/128 of a half.

    Examples
    --------
    >>> import numpy as np
    >>> published_flow(np.array([[[-3.0, 2.6]]], np.float32)).tolist()
    [[[0, 3]]]
    """
    import numpy as np

    return np.clip(np.rint(flow), 0, 255).astype(np.uint8)
