"""The service's name and version, as its answers and documents state them."""

from __future__ import annotations

from typing import Final

NAME: Final = "Illustration Personalizer"
VERSION: Final = "1.0.0"
