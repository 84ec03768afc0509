"""Pages of HTML and SVG that make no request: what a bench and a compression report are shown with."""
