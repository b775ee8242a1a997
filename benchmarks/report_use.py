"""The tables of what a user meets beside scores: stated accuracy, time limits, few rows, studies, trackers, the service."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from report_results import Line, Results
from report_tables import spread, table


def stated(results: Results) -> str:
    """Accuracy that was asked for, and reached on rows that chose nothing, over splits."""
    groups: dict[tuple[str, float], list[Line]] = defaultdict(list)
    for line in results.all("confidence", job="accuracy"):
        groups[line["data"], line["stated"]].append(line)
    rows = []
    for (data, asked), lines in sorted(groups.items()):
        newest = list({line["seed"]: line for line in lines}.values())
        reached = sum(line["reached_on_validation"] for line in newest)
        rows.append([
            data, f"{asked:.2f}", spread([line["accuracy"] for line in newest]),
            spread([line["coverage"] for line in newest]), spread([line["all"] for line in newest]),
            f"{reached} of {len(newest)}",
        ])  # fmt: skip
    head = [
        "data",
        "asked for",
        "accuracy of what is answered",
        "share answered",
        "accuracy of all rows",
        "threshold found",
    ]
    return table(head, rows)


def intervals(results: Results) -> str:
    newest = results.newest_by("confidence", "data", job="intervals")
    rows = [
        [data, f"{line['level']:.0%}", f"{line['coverage']:.1%}", f"{line['rows']:,}"]
        for data, line in sorted(newest.items())
    ]
    return table(["data", "level", "numbers inside their interval", "rows"], rows)


def limits(results: Results) -> str:
    """The newest run of each case, limit, and number of busy processes."""
    newest = {(line["name"], line["limit"], line["busy"]): line for line in results.all("time_limit")}
    rows = [
        [
            name, f"{limit:.0f} s", str(busy), str(round(line["load"])) if "load" in line else "–", f"{line['total']:.0f} s", "yes" if line["holds"] else "**no**",
            f"{line['metric']} {line['score']:.3f}", f"{max(line['baseline'], line['table_alone'] or line['baseline']):.3f}",
        ]
        for (name, limit, busy), line in sorted(newest.items())
    ]  # fmt: skip
    head = [
        "rows",
        "limit",
        "busy programs beside",
        "load",
        "took",
        "within the promise",
        "score",
        "majority class, mean, or the table alone",
    ]
    return table(head, rows)


def beside(results: Results) -> str:
    """The newest run of each machine: its pace beside one and two busy processes, of that alone."""
    newest = {line["machine"]: line for line in results.all("busy") if line["wait"] == "ours" and not line["threads"]}
    rows = [
        [machine.partition(", L3")[0] + ")", *(" and ".join(f"{r:.2f}" for r in line[name]) for name in ("tokens_ratio", "rows_ratio"))]
        for machine, line in newest.items()
    ]  # fmt: skip
    return table(["machine", "training beside one and two, of alone (goals 0.65 and 0.40)", "prediction"], rows)


def mixed(results: Results) -> str:
    """R² of each seed, with nothing said."""
    newest: dict[tuple[int, str], Line] = {}
    for line in results.all("mixed"):
        if not line.get("settings"):
            newest[line["seed"], line["model"]] = line
    models = ("polydetr", "table", "boosting")
    rows = [
        [str(seed), *(f"{newest[seed, model]['r2']:.3f}" for model in models)]
        for seed in sorted({seed for seed, _ in newest})
        if all((seed, model) in newest for model in models)
    ]
    return table(["seed", "numbers and photos", "the table alone", "gradient boosting on the numbers"], rows)


def few(results: Results) -> str:
    groups: dict[tuple[str, int, str], dict[int, Line]] = defaultdict(dict)
    for line in results.all("few_rows"):
        groups[line["set"], line["per_class"], line["side"]][line["draw"]] = line
    rows = [
        [name, str(count), side, *_of_few([*draws.values()]), str(len(draws)), _test_rows(draws.values())]
        for (name, count, side), draws in sorted(groups.items())
    ]
    return table(["data", "rows per class", "by", "accuracy", "training took", "draws", "test rows"], rows)


def _test_rows(draws: Iterable[Line]) -> str:
    return ", ".join(f"{count:,}" for count in sorted({line["test"] for line in draws}))


def _of_few(draws: Sequence[Line]) -> tuple[str, str]:
    """Accuracy and seconds; how far it had come where it was ended."""
    done = [line for line in draws if line["accuracy"] is not None]
    if not done:
        (line,) = draws[:1]
        return "–", f"{line['reason']}: {line['steps_done']:,} of {line['steps']:,} steps"
    took = "seconds" if done[0]["side"] == "setfit" else "training_seconds"
    seconds = [line[took] for line in done if took in line]
    return spread([line["accuracy"] for line in done]), f"{sum(seconds) / len(seconds):.0f} s" if seconds else "–"


BETTER = 0.95
"""Of ``polydetr.tuning.tune``, which a report does not import."""


def studies(results: Results) -> str:
    rows: list[list[str]] = []
    for name, line in sorted(results.newest_by("tuning", "set", job="gain").items()):
        gain = line["best_minus_default"]
        kept = "best" if line["gain_of_study"] and line["gain_of_study"]["share_better"] >= BETTER else "default"
        by_then = "" if kept == line["kept"] else f" (kept the {line['kept']} by the rule of that day)"
        rows.append([
            f"{name}: study of {line['trials']} trials in {line['time_limit']}, keeps the {kept}{by_then}",
            f"best against default on test rows, three seeds: {gain[0]:+.4f} ({gain[1]:+.4f} … {gain[2]:+.4f})",
        ])  # fmt: skip
    for case, line in sorted(results.newest_by("tuning", "case", job="overhead").items()):
        rows.append([
            f"a trial beside a plain training, {case}",
            f"{line['first_minus_plain_cpu_seconds']:+.2f} CPU seconds the first, {line['later_minus_plain_cpu_seconds']:+.2f} a later one, "
            f"of {line['plain_cpu_seconds']:.1f}",
        ])  # fmt: skip
    for case, line in sorted(results.newest_by("tuning", "case", job="memory").items()):
        rows.append([f"memory after {line['trials']} trials against 3, {case}", f"{line['growth']:+.1%}"])
    for name, line in results.newest_by("tracking", "name").items():
        rows.append([name, f"training {line['slower_percent_median']:+.1f} % slower (median of {line['pairs']} pairs)"])
    return table(["what", "found"], rows)


def _of_service(line: Line) -> tuple[str, str, str]:
    """What was done, found, and is to be reached."""
    part: str = line["part"]
    if part == "saturation":
        share = line["share_of_bare"]
        found = f"{share['rows_32']:.0%} with 32 rows per request, {share['rows_1']:.0%} with one"
        return "rows per second, of those of the bare model", found, "80 %, 40 %"
    if part == "latency":
        found = f"{line['p99_of_one_bare_row']:.1f} times one bare row ({line['half']['ms']['p99']:.0f} ms)"
        if least := line.get("of_a_queue_alone"):
            found += f"; a queue of the same rows in a service without any cost has {least:.1f}"
        return "p99 at half of saturation", found, "≤ 3"
    if part == "overload":
        told = ", ".join(f"{status}: {count:,}" for status, count in sorted(line["load"]["statuses"].items()))
        found = f"p99 of the answered {line['p99_s']:.2f} s of {line['deadline_s']:.0f} s; {told}"
        return "five times saturation", found, "no crash, all answered or refused"
    if part == "soak":
        grown = line["memory_growth"]
        found = f"front {grown['front']:+.1%}, models {grown['workers']:+.1%} ({line['requests']:,} requests, {line['swaps']} swaps)"
        return "memory after the warm-up", found, "≤ 5 %"
    if part == "swaps":
        return (
            f"{line['swaps']} swaps under load",
            f"{line['failed']} of {line['answered'] + line['failed']:,} failed",
            "0",
        )
    found = f"model process {max(line['worker_s']):.1f} s, service {max(line['service_s']):.1f} s, the longest of {len(line['worker_s'])}"
    return "ready again after kill -9 under load", found, f"≤ {line['limit_s']:.0f} s"


def service(results: Results) -> str:
    newest = {(line["part"], line["runtime"]): line for line in results.all("service")}
    rows = []
    for (_, runtime), line in sorted(newest.items()):
        what, found, goal = _of_service(line)
        rows.append([what, runtime, found, goal])
    return table(["what", "runtime", "found", "to be reached"], rows)


def runtimes(results: Results) -> str:
    rows: list[list[str]] = []
    for line in {(line["job"], line["task"]): line for line in results.all("runtime")}.values():
        rates = ", ".join(f"{name.replace('_', ' ')} {rate:,.0f}" for name, rate in line["median_texts_per_s"].items())
        times = ", ".join(f"{name.replace('_', ' ')} {times:.2f}×" for name, times in line["times"].items())
        rows.append([f"{line['task']}, beside {line['job']}", f"{times} ({rates} texts per second)"])
    for line in results.all("install")[-1:]:
        rows.append(["polydetr-core alone, installed", f"{line['installed_mb']:.0f} MB"])
        rows.append(
            [
                "`from polydetr import Predictor`, least and median",
                "{:.2f} s, {:.2f} s".format(*line["import_predictor_s"]),
            ]
        )
        rows.append(
            [
                "first answer of a small model, from the start of the process",
                "{:.2f} s, {:.2f} s".format(*line["first_answer_s"]),
            ]
        )
    return table(["what", "found"], rows)


def _of_pages(line: Line) -> list[list[str]]:
    """What was done, found, and is to be reached."""
    part: str = line["part"]
    if part == "ask":
        paint, over = line["first paint"], line["press to answer, less the request"]
        return [
            ["first paint of a page, nothing cached", f"{paint['median_s']:.2f} s, the longest of {paint['rounds']} {paint['worst_s']:.2f} s", "≤ 1.5 s"],
            ["an answer shown, over the same request by HTTP", f"{over['median_s']:.3f} s, at most {over['worst_s']:.3f} s", "≤ 0.3 s"],
        ]  # fmt: skip
    if part == "batch":
        found = f"{line['sort_ms']:.0f} ms, {line['filter_ms']:.0f} ms, {line['search_ms']:.0f} ms"
        return [[f"{line['rows']:,} answers in the table: sort, filter, search", found, "≤ 200 ms"]]
    if part == "browsers":
        what = f"memory, {line['browsers']} browsers asking every 2 s for {line['seconds'] / 60:.0f} min"
        return [
            [
                what,
                f"{line['growth']:+.1%} after the warm-up; {line['answered']:,} of {line['asked']:,} answered",
                "≤ 5 %",
            ]
        ]
    what = f"memory after {line['loads']:,} page loads that were cut off, against a tenth of them"
    return [[what, f"{line['growth']:+.1%}", "≤ 5 %"]]


def pages(results: Results) -> str:
    rows = [row for _, line in sorted(results.newest_by("studio", "part").items()) for row in _of_pages(line)]
    for store, line in sorted(results.newest_by("corrections", "store").items()):
        found = f"{line['lost']} lost, {line['doubled']} doubled of {line['acknowledged']:,}"
        rows.append([f"corrections saved while the process is killed {line['kills']} times, {store}", found, "0, 0"])
    return table(["what", "found", "to be reached"], rows)
