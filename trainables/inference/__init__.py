"""A final model in use: what it says of images, how it is built without this project, and other formats for it."""
