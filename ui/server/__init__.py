"""HTTP server of the page: access rules, limits, sign-in and listening; no page content."""
