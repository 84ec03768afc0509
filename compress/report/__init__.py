"""Reports: self-contained HTML pages, light and dark, with charts as inline SVG."""
