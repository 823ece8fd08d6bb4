"""`drba setup` and `drba doctor`: what a machine has, what it lacks, and DRBA in the viewer's own mpv."""
