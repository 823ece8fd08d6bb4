"""`drba bench`: how good in-between frames are and how fast they are made, by model, engine and size."""
