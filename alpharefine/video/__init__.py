"""Videos: reading of files, folders and cameras, drawing of boxes and masks, writing of video files."""
