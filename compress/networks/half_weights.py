"""The weights of a saved Keras network in half precision: Keras gives them the network's own type when it loads them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from edgeai.whole_file import write_whole

WEIGHTS_NAME = "model.weights.h5"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def halve_weights(path: Path) -> None:
    """Rewrite a .keras file with its float32 weights in float16; what float16 cannot hold stays as it is."""
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    members[WEIGHTS_NAME] = _halved(members[WEIGHTS_NAME])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    write_whole(path, buffer.getvalue())


def _halved(content: bytes) -> bytes:
    """An HDF5 file written anew: datasets that were replaced in place would leave their old bytes in it."""
    import h5py

    made = io.BytesIO()
    with h5py.File(io.BytesIO(content), "r") as old, h5py.File(made, "w") as new:

        def copy(name: str, item: object) -> None:
            if isinstance(item, h5py.Group):
                target = new.require_group(name)
            elif isinstance(item, h5py.Dataset):
                target = new.create_dataset(name, data=_half(np.asarray(item)))
            else:
                return
            target.attrs.update(item.attrs)

        new.attrs.update(old.attrs)
        old.visititems(copy)
    return made.getvalue()


def _half(values: np.ndarray) -> np.ndarray:
    if values.dtype != np.float32 or np.abs(values).max(initial=0.0) > np.finfo(np.float16).max:
        return values
    return values.astype(np.float16)
