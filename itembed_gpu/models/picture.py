"""A figure of matplotlib that notebooks draw; importing it imports matplotlib."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class Picture(Figure):
    """A figure that `matplotlib.pyplot` does not know of: it is drawn where it is shown."""

    def png(self) -> bytes:
        drawn = io.BytesIO()
        self.savefig(drawn, format="png")
        return drawn.getvalue()

    # What notebooks ask for; those of matplotlib's own they draw only once pyplot is imported.
    _repr_png_ = png
