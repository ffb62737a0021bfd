"""What each page shows: one module a page, named like its notebook, with `SECTIONS`: section id -> function of a scene."""
