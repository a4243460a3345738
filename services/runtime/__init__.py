"""What every process stands on. Knows no camera and no alert."""
