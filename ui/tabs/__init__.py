"""Tabs of the page: their components and events. What they show is rendered in `ui.render`."""
