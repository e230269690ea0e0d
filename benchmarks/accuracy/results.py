#!/usr/bin/env python3
"""Prints a summary of the accuracy benchmark as Markdown tables, and draws it.

usage: results.py SUMMARY.json [--picture FILE.svg] [--bright POLICY,...]
       results.py SUMMARY.json SUMMARY.json ...

SUMMARY.json: of accuracy table --against POLICY --json SUMMARY.json. Means are over the tasks that
its comparisons rank at a budget. Several summaries, of one model each, stand side by side: each
policy's mean at each budget, and how it did against POLICY. --bright: policies that the picture
names; the others are grey. The picture needs matplotlib.
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
        verdicts = {cell["comparison"]["verdict"] for cell in cells.values() if "comparison" in cell}
        return bool(verdicts) and "not ranked" not in verdicts
    return {task: cells for task, cells in tasks.items() if is_ranked(cells)}


def mean(tasks, policy):
    """Mean share of answers right over tasks; None where one has no rows of the policy."""
    if not tasks or not all(policy in cells for cells in tasks.values()):
        return None
    return sum(share(cells[policy]) for cells in tasks.values()) / len(tasks)


def policies_of(terms):
    names = {policy for tasks in terms.values() for cells in tasks.values() for policy in cells}

    def standing(policy):
        means = [mean(ranked(tasks), policy) for tasks in terms.values()]
        known = [value for value in means if value is not None]
        return -sum(known) / len(known) if known else 0
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
    return {key: {policy: mean(ranked(tasks), policy) for policy in policies_of(terms)}
            for key, tasks in terms.items()}


def term_name(pinned, budget):
    return f"{budget:g}%{', pinned' if pinned else ''}"


def overview(terms):
    columns = means_of(terms)
    headings = [term_name(*key) for key in columns]
    rows = [(policy, [shown(column, policy) for column in columns.values()])
            for policy in policies_of(terms)]
    return table(headings, rows)


def by_task(terms, key, whole):
    tasks = terms[key]
    columns = {task: {policy: share(cell) for policy, cell in cells.items()}
               for task, cells in tasks.items()}
    headings = [task if task in ranked(tasks) else f"{task} †" for task in columns]
    rows = [("whole cache", [percent(whole.get(task)) for task in columns])]
    rows += [(policy, [shown(column, policy, task in ranked(tasks))
                       for task, column in columns.items()])
             for policy in policies_of({key: tasks})]
    return table(headings, rows)


def verdicts(terms):
    """{policy: how often it was worse, not shown different, better} over all ranked comparisons."""
    counts = collections.defaultdict(collections.Counter)
    for tasks in terms.values():
        for cells in ranked(tasks).values():
            for policy, cell in cells.items():
                if "comparison" in cell:
                    counts[policy][cell["comparison"]["verdict"]] += 1
    return counts


def sureness(terms):
    """How often policies that are no oracles were worse and so on, at each budget."""
    headings = (*VERDICTS, "not ranked")
    rows = []
    for key, tasks in terms.items():
        counts = collections.Counter(
            cell["comparison"]["verdict"] for cells in tasks.values()
            for policy, cell in cells.items() if policy not in ORACLES and "comparison" in cell)
        rows.append((term_name(*key), [str(counts[verdict]) for verdict in headings]))
    return table(headings, rows, "budget")


def side_by_side(models):
    """Prints policies that all summaries have, "first / second"; `models`: the terms of each."""
    means = [means_of(terms) for terms in models]
    shared = set.intersection(*(set(policies_of(terms)) for terms in models))
    names = [name for name in policies_of(models[0]) if name in shared]
    print(table([term_name(*key) for key in models[0]],
                [(name, [" / ".join(shown(each.get(key, {}), name) for each in means)
                         for key in models[0]]) for name in names]))
    headings = [str(i + 1) for i in range(len(models))]
    print(f"\n{', '.join(VERDICTS)}; all ranked cells\n")
    counts = [verdicts(terms) for terms in models]
    print(table(headings, [(name, [", ".join(str(each[name][verdict]) for verdict in VERDICTS)
                                   for each in counts])
                           for name in names if any(each[name] for each in counts)]))


def look_of(policy, bright):
    if policy in bright:
        return {"color": PALETTE[bright.index(policy) % len(PALETTE)], "linewidth": 2, "marker": "o",
                "label": policy, "zorder": 3}
    if policy == ORACLES[1]:
        return {"color": GREY, "linestyle": ":", "label": policy, "zorder": 2}
    return {"color": "#999999", "linewidth": 0.7, "zorder": 1}


def draw_panel(axis, terms, pinned, bright):
    for policy in reversed(policies_of(terms)):
        if policy == ORACLES[0]:
            continue
        points = [(budget, mean(ranked(tasks), policy))
                  for (pin, budget), tasks in terms.items() if pin == pinned]
        points = [(budget, 100 * value) for budget, value in points if value is not None]
        if points:
            axis.plot(*zip(*points), **look_of(policy, bright))
    axis.set_title("prompt pinned" if pinned else "prompt not pinned", color=GREY)
    axis.set_xlabel("budget (% of a problem's tokens)", color=GREY)
    axis.tick_params(colors=GREY)
    axis.spines[:].set_color("#99999988")
    axis.grid(color="#99999944")
    axis.set_facecolor("none")


def draw(terms, path, bright):
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "lethe", "svg.fonttype": "none", "font.size": 11})
    from matplotlib import pyplot
    pins = sorted({pinned for pinned, _ in terms})
    figure, axes = pyplot.subplots(1, len(pins), figsize=(4.6 * len(pins) + 1.6, 4), sharey=True,
                                   squeeze=False)
    for axis, pinned in zip(axes[0], pins):
        draw_panel(axis, terms, pinned, bright)
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
    if len(options.summary) > 1:
        if options.picture or options.bright:
            parser.error("--picture and --bright take one summary")
        side_by_side([read(path)[0] for path in options.summary])
        return
    terms, whole = read(options.summary[0])
    print(overview(terms))
    print(f"\n{sureness(terms)}")
    for pinned, budget in terms:
        print(f"\n{budget:g}%, prompt {'pinned' if pinned else 'not pinned'}\n")
        print(by_task(terms, (pinned, budget), whole))
    if options.picture:
        draw(terms, options.picture, options.bright)


if __name__ == "__main__":
    main()
