"""The files that a map for browsers is made of.

`map.html` is the page, `map.js` and `map.css` what is ours in it. `leaflet/` holds
Leaflet 1.9.4 as published, which pans and zooms: ``npm pack leaflet@1.9.4`` brings
`leaflet.js`, `leaflet.css` and `LICENSE` (BSD-2-Clause).
"""
