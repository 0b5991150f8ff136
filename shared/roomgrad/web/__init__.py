"""What all pages share: access checks, changes, the web server, and common styles and scripts."""
