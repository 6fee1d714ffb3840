"""Grafana's JSON of the dashboards, made with its own SDK: `python -m tests.contract.dashboard_json` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from grafana_foundation_sdk.builders import common as parts
from grafana_foundation_sdk.builders import dashboard, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
)

from deploy.dashboards.boards import BOARDS
from deploy.dashboards.panel import Board, Panel, Query

FOLDER: Final = Path(__file__).parents[2] / "deploy/grafana"
_SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
_HEIGHT: Final = 7
_NUMBER_HEIGHT: Final = 4
_REFS: Final = "ABCDEFGH"


def board_json(board: Board) -> str:
    """The dashboard as it is imported or provisioned."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.meaning)
        .tags(["tallygate"])
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("utc")
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("Tallygate")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["tallygate"])
            .keep_time(True)
        )
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
        )
    )
    for row in board.rows:
        made = made.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            made = made.with_panel(_panel(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"


def _panel(panel: Panel) -> Any:
    shown = _number() if panel.shape == "number" else _graph(panel)
    height = _NUMBER_HEIGHT if panel.shape == "number" else _HEIGHT
    shown = (
        shown.title(panel.title)
        .description(panel.meaning)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .span(panel.width)
        .height(height)
        .thresholds(_thresholds(panel))
    )
    for ref, query in zip(_REFS, panel.queries, strict=False):
        shown = shown.with_target(_target(ref, query))
    return shown


def _number() -> stat.Panel:
    last = parts.ReduceDataOptions().calcs(["lastNotNull"])
    return stat.Panel().reduce_options(last).graph_mode(BigValueGraphMode.AREA)


def _graph(panel: Panel) -> Any:
    if panel.shape == "states":
        return statetimeline.Panel().show_value(VisibilityMode.NEVER)
    legend = (
        parts.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    graph = timeseries.Panel().draw_style(GraphDrawStyle.LINE).min(0).legend(legend)
    if panel.shape == "stacked":
        graph = graph.fill_opacity(30).stacking(parts.StackingConfig().mode(StackingMode.NORMAL))
    return graph


def _thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    steps = [Threshold(value=None, color="green")]
    if panel.bad_from is not None:
        steps.append(Threshold(value=panel.bad_from, color="red"))
    elif panel.bad_below is not None:
        steps = [
            Threshold(value=None, color="red"),
            Threshold(value=panel.bad_below, color="green"),
        ]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _target(ref: str, query: Query) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .expr(query.expr)
        .legend_format(query.legend or "__auto")
        .ref_id(ref)
        .exemplar("_bucket" in query.expr)
        .range()
    )


def main() -> None:
    """Write each board; what is not on the list any more is removed."""
    made = {FOLDER / f"{board.uid}.json": board_json(board) for board in BOARDS}
    for stale in set(FOLDER.glob("*.json")) - set(made):
        stale.unlink()
    for path, text in made.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
