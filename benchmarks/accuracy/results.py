#!/usr/bin/env python3
"""Prints a summary of the accuracy benchmark as Markdown tables, and draws it.

usage: results.py SUMMARY.json ... [--picture FILE.svg] [--bright POLICY,...]

SUMMARY.json: of accuracy table --against POLICY --json SUMMARY.json. Means are over the tasks that
its comparisons rank at a budget. Several summaries are of one model each: tables and picture show
the mean of the models, and one table each policy's means side by side. --bright: policies that the
picture names; the others are grey. The picture needs matplotlib.
"""

import argparse
import collections
import json
import pathlib

ORACLES = ("oracle", "attention-oracle")
WHOLE = "none"
VERDICTS = ("worse", "no difference shown", "better")
GREY = "#777777"
PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#7b68d8", "#56b4e9"]


def share(cell):
    hits, count = cell["answers"][:2]
    return hits / count


def read(path):
    """{(pinned, budget): {task: {policy: cell}}}, and the whole cache's {task: share}."""
    summary = json.loads(pathlib.Path(path).read_text())
    if "against" not in summary:
        raise SystemExit(f"{path}: has no comparisons; make it with --against POLICY")
    terms, whole = collections.defaultdict(dict), {}
    for setting in summary["settings"]:
        cells = {cell["policy"]: cell for cell in setting["policies"]}
        if WHOLE in cells:
            whole[setting["task"]] = share(cells.pop(WHOLE))
        if cells:
            tasks = terms[setting["pinned"], setting["budget"]]
            if setting["task"] in tasks:
                raise SystemExit(f"{path}: several models or sizes of {setting['task']}; give one")
            tasks[setting["task"]] = cells
    return dict(sorted(terms.items())), whole


def ranked(tasks):
    def is_ranked(cells):
        verdicts = {cell["comparison"]["verdict"]
                    for cell in cells.values() if "comparison" in cell}
        return bool(verdicts) and "not ranked" not in verdicts
    return {task: cells for task, cells in tasks.items() if is_ranked(cells)}


def mean(tasks, policy):
    """Mean share of answers right over tasks; None where one has no rows of the policy."""
    if not tasks or not all(policy in cells for cells in tasks.values()):
        return None
    return sum(share(cells[policy]) for cells in tasks.values()) / len(tasks)


def average(values):
    """The mean; None where a value is."""
    values = list(values)
    return None if None in values else sum(values) / len(values)


def policies_of(columns):
    """The policies of {key: {policy: mean}}, oracles first, then by their mean over the keys."""
    def standing(policy):
        known = [column[policy] for column in columns.values() if column.get(policy) is not None]
        return -sum(known) / len(known) if known else 0
    names = {policy for column in columns.values() for policy in column}
    return sorted(names, key=lambda policy: (policy not in ORACLES, standing(policy), policy))


def percent(value):
    return "–" if value is None else f"{100 * value:.1f}"


def shown(column, policy, is_ranked=True):
    """In percent; in a ranked column the best that is no oracle in bold."""
    text = percent(column.get(policy))
    best = max((each for name, each in column.items() if name not in ORACLES and each is not None),
               default=None)
    return f"**{text}**" if is_ranked and policy not in ORACLES and text == percent(best) else text


def table(headings, rows, first="policy"):
    lines = [f"| {first} | " + " | ".join(headings) + " |", "|---|" + "---:|" * len(headings)]
    return "\n".join(lines + [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows])


def means_of(terms):
    """{(pinned, budget): {policy: mean over the tasks ranked there}}."""
    return {key: {policy: mean(ranked(tasks), policy)
                  for cells in tasks.values() for policy in cells}
            for key, tasks in terms.items()}


def mean_of_models(means):
    """The mean of several means_of, of the budgets and policies that all of them have."""
    keys = [key for key in means[0] if all(key in each for each in means)]
    names = set.intersection(*(set(policies_of(each)) for each in means))
    return {key: {policy: average(each[key].get(policy) for each in means) for policy in names}
            for key in keys}


def term_name(pinned, budget):
    return f"{budget:g}%{', pinned' if pinned else ''}"


def overview(columns):
    headings = [term_name(*key) for key in columns]
    rows = [(policy, [shown(column, policy) for column in columns.values()])
            for policy in policies_of(columns)]
    return table(headings, rows)


def by_task(models, means, key):
    """Shares of the tasks at a budget, mean over models; marked: those that one does not rank."""
    tasks = [terms[key] for terms, _ in models]
    shared = [task for task in tasks[0] if all(task in each for each in tasks)]
    names = policies_of(mean_of_models([{key: each[key]} for each in means]))
    headings, columns = [], []
    for task in shared:
        is_ranked = all(task in ranked(each) for each in tasks)
        shares = {policy: average(share(each[task][policy]) if policy in each[task] else None
                                  for each in tasks) for policy in names}
        headings.append(task if is_ranked else f"{task} †")
        columns.append([percent(average(whole.get(task) for _, whole in models))]
                       + [shown(shares, policy, is_ranked) for policy in names])
    return table(headings, list(zip(["whole cache", *names], zip(*columns))))


def sureness(models):
    """How often policies that are no oracles were worse and so on, "first / second" model."""
    headings = (*VERDICTS, "not ranked")

    def counts_of(tasks):
        return collections.Counter(
            cell["comparison"]["verdict"] for cells in tasks.values()
            for policy, cell in cells.items() if policy not in ORACLES and "comparison" in cell)
    rows = []
    for key in [key for key in models[0] if all(key in terms for terms in models)]:
        counts = [counts_of(terms[key]) for terms in models]
        rows.append((term_name(*key), [" / ".join(str(each[verdict]) for each in counts)
                                       for verdict in headings]))
    return table(headings, rows, "budget")


def side_by_side(means):
    """The means of policies that all models have, "first / second"."""
    shared = mean_of_models(means)
    return table([term_name(*key) for key in shared],
                 [(name, [" / ".join(shown(each[key], name) for each in means) for key in shared])
                  for name in policies_of(shared)])


def look_of(policy, bright):
    if policy in bright:
        color = PALETTE[bright.index(policy) % len(PALETTE)]
        return {"color": color, "linewidth": 2, "marker": "o", "label": policy, "zorder": 3}
    if policy == ORACLES[1]:
        return {"color": GREY, "linestyle": ":", "label": policy, "zorder": 2}
    return {"color": "#999999", "linewidth": 0.7, "zorder": 1}


def draw_panel(axis, columns, pinned, bright):
    for policy in reversed(policies_of(columns)):
        if policy == ORACLES[0]:
            continue
        points = [(budget, column.get(policy))
                  for (pin, budget), column in columns.items() if pin == pinned]
        points = [(budget, 100 * value) for budget, value in points if value is not None]
        if points:
            axis.plot(*zip(*points), **look_of(policy, bright))
    axis.set_title("prompt pinned" if pinned else "prompt not pinned", color=GREY)
    axis.set_xlabel("budget (% of a problem's tokens)", color=GREY)
    axis.tick_params(colors=GREY)
    axis.spines[:].set_color("#99999988")
    axis.grid(color="#99999944")
    axis.set_facecolor("none")


def draw(columns, path, bright):
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "lethe", "svg.fonttype": "none", "font.size": 11})
    from matplotlib import pyplot
    pins = sorted({pinned for pinned, _ in columns})
    figure, axes = pyplot.subplots(1, len(pins), figsize=(4.6 * len(pins) + 1.6, 4), sharey=True,
                                   squeeze=False)
    for axis, pinned in zip(axes[0], pins):
        draw_panel(axis, columns, pinned, bright)
    axes[0][0].set_ylabel("answers right (%), mean of tasks", color=GREY)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="center right", frameon=False, labelcolor=GREY)
    figure.tight_layout(rect=(0, 0, 0.83, 1))
    figure.savefig(path, transparent=True, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("summary", nargs="+")
    parser.add_argument("--picture")
    parser.add_argument("--bright", type=lambda text: text.split(","), default=[])
    options = parser.parse_args()
    models = [read(path) for path in options.summary]
    means = [means_of(terms) for terms, _ in models]
    columns = mean_of_models(means)
    print(f"{overview(columns)}\n\n{sureness([terms for terms, _ in models])}")
    if len(models) > 1:
        print(f"\n{side_by_side(means)}")
    for pinned, budget in columns:
        print(f"\n{budget:g}%, prompt {'pinned' if pinned else 'not pinned'}\n")
        print(by_task(models, means, (pinned, budget)))
    if options.picture:
        draw(columns, options.picture, options.bright)


if __name__ == "__main__":
    main()
