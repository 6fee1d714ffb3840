"""The list of dashboards: the overview first, then one for each concern. Pure."""

from __future__ import annotations

from typing import Final

from deploy.dashboards.backends import BACKENDS
from deploy.dashboards.limits_and_money import LIMITS_AND_MONEY
from deploy.dashboards.log_and_stores import LOG_AND_STORES
from deploy.dashboards.overview import OVERVIEW
from deploy.dashboards.panel import Board

BOARDS: Final[tuple[Board, ...]] = (OVERVIEW, LIMITS_AND_MONEY, BACKENDS, LOG_AND_STORES)
