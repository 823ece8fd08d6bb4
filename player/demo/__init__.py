"""The demo clip, which the program draws itself: a scene with everything that in-between frames find hard."""
