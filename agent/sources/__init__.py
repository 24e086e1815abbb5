"""Where desired state comes from: directories of spec files, and of image archives."""
