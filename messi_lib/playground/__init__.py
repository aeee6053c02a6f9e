"""Chapter 07, `notebooks/07_playground.ipynb`: painting holes and watching them fill.

`painter` is the brush (anywidget: `painter.js` beside it), `session` does the work without any
widget, `playground` joins both into a page, `server` opens that page in the browser
(`messi playground`).
"""
