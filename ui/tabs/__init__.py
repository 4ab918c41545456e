"""Tabs of the page: components and events. HTML belongs to `ui.render`, work to `ui.services`."""
