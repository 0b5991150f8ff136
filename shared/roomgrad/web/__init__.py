"""What all pages share: access checks, events, the web server, and common styles and scripts."""
