"""The HTTP server of the page: access rules, limits, logins and listening. No page content."""
