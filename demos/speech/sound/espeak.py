"""eSpeak NG, the speech synthesiser, called in this process through the library that its PyPI wheel brings."""

import _ctypes
import ctypes
import threading

import numpy as np

from demos.kit.cli import optional

# Constants of espeak-ng/speak_lib.h.
_SYNCHRONOUS = 2  # audio comes by callback in the calling thread
_DONT_EXIT = 0x8000  # errors are returned instead of ending the process
_UTF8 = 1
_RATE, _PITCH = 1, 3
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
_close = getattr(_ctypes, "dlclose", None) or _ctypes.FreeLibrary  # type: ignore[attr-defined]
_lock = threading.Lock()


def speak(text: str, voice: str, words_per_minute: int, pitch: int, seed: int = 1) -> tuple[np.ndarray, int]:
    """Speaks a text: int16 samples (n,), and their rate in hertz.

    The same arguments give the same samples, whatever was spoken before. A voice is one of eSpeak NG's, perhaps with a
    variant: "en-us", "en-gb-x-rp+f2"; an unknown one is a ValueError. The speed is in [80, 450], the pitch in [0, 99]
    with 50 as the voice's own, and the seed is that of the breath in the voice.
    """
    loader = optional("espeakng_loader", "--corpus synthetic", extra="speech")
    chunks: list[np.ndarray] = []

    def receive(samples, count, _):
        if samples and count > 0:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    callback = _CALLBACK(receive)
    with _lock:
        # Its flutter, gain and random state outlive even espeak_Terminate, so the library is loaded anew (under 1 ms).
        library = ctypes.CDLL(loader.get_library_path())
        try:
            rate = library.espeak_Initialize(_SYNCHRONOUS, 0, loader.get_data_path().encode(), _DONT_EXIT)
            if rate <= 0:
                raise ValueError(f"eSpeak NG cannot start with its data in {loader.get_data_path()}.")
            library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
            library.espeak_SetSynthCallback(callback)
            if library.espeak_SetVoiceByName(voice.encode()) != 0:
                raise ValueError(f"eSpeak NG has no voice {voice!r}.")
            library.espeak_SetParameter(_RATE, words_per_minute, 0)
            library.espeak_SetParameter(_PITCH, pitch, 0)
            data = text.encode() + b"\0"
            library.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 0, 0, _UTF8, None, None)
            library.espeak_Terminate()
        finally:
            _close(library._handle)
    return np.concatenate([np.empty(0, "int16"), *chunks]), rate
