"""Pure functions that turn records into HTML and text. No Gradio, no files, no state."""
