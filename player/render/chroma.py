"""Where a source's chroma samples lie. PyAV does not tell, ffprobe does."""

from __future__ import annotations

import logging
import subprocess

log = logging.getLogger(__name__)

#: FFmpeg's names by the code points of H.273 (chroma_sample_loc_type).
LOCATIONS = ("left", "center", "topleft", "top", "bottomleft", "bottom")
TIMEOUT_S = 30


def chroma_location(path: str, stream: int) -> int | None:
    """H.273's code point; None where the stream does not say, or there is no ffprobe to ask."""
    command = ["ffprobe", "-v", "error", "-select_streams", str(stream), "-show_entries", "stream=chroma_location"]
    command += ["-of", "default=nokey=1:noprint_wrappers=1", path]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        log.info("%s: the place of its chroma samples is not known (%s)", path, error)
        return None
    words = done.stdout.split()
    return LOCATIONS.index(words[0]) if words and words[0] in LOCATIONS else None
