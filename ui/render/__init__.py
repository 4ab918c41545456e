"""HTML and text of the page, made from records by pure functions; nothing here knows Gradio."""
