"""Writes the datasets of tests/data/eval: the columns of the public ones, our own sentences about an invented town.

    python3 tools/eval_fixtures.py [OUT]

Nothing in them is taken from a public dataset. JSON needs no package; with pyarrow, some are written as Parquet too, with
the layout of the Hub's dataset repositories. Each dataset has texts that tell prompts apart: white space at the ends,
letters beyond ASCII, brackets, numbers, an answer that repeats another.
"""

import json
import sys
from pathlib import Path

# Subject, place, work, tool, year: everything below is made of these.
PEOPLE = [
    ("Ada Brink", "the harbour", "mends nets", "a bone needle", 1911),
    ("Tomas Vey", "the mill", "grinds rye", "a granite stone", 1874),
    ("Ines Karr", "the lighthouse", "trims the wick", "brass scissors", 1902),
    ("Olu Fenn", "the school", "teaches sums", "a slate", 1888),
    ("Mara Quist", "the bakery", "bakes flat bread", "an oak peel", 1930),
    ("Piet Solheim", "the smithy", "shoes horses", "a short hammer", 1899),
    ("Yun Aster", "the garden", "grafts pears", "a curved knife", 1921),
    ("Rosa Dell", "the post office", "sorts letters", "a rack of pigeonholes", 1908),
    ("Émile Čapek", "the café", "pours coffee", "a copper pot", 1935),
    ("Björn Ångholm", "the boatyard", "caulks hulls", "a mallet", 1867),
    ("Hana Ito", "the print shop", "sets type", "a composing stick", 1914),
    ("Noor Salim", "the well", "draws water", "a rope of hemp", 1879),
]


def other(i, k=1):
    return PEOPLE[(i + k) % len(PEOPLE)]


def lambada():
    rows = []
    for name, place, work, tool, year in PEOPLE:
        rows.append(f"{name} came to {place} in {year}. Every morning one could see how {name} {work} there with {tool}, and in the evening the lamp was lit at {place}")
        rows.append(f"\" Who {work} ? \" asked the child . \" Why , that is {name.split()[0]} , \" said the aunt , \" nobody else would go to {place} so early , nobody but {name.split()[0]}")
        rows.append(f"They looked for {tool} , under the bench and behind the door of {place} , until someone found {tool.split()[-1]}")
    rows += ["Once", "two  spaces and a tab\there", "The price was 12", "ends with a space ", "naïve façade — “quoted” ’s end…"]
    return {"test": [{"text": text} for text in rows]}


def piqa():
    def row(i):
        name, place, work, tool, _ = PEOPLE[i % 12]
        _, other_place, _, other_tool, _ = other(i, 1 + i // 12)
        sols = [f"take {tool} to {place}.", f"take {other_tool} to {other_place}."]
        right = i % 2
        return {"goal": f"To do what {name} does, who {work},", "sol1": sols[right], "sol2": sols[1 - right], "label": right}

    rows = [row(i) for i in range(36)]
    rows[3]["goal"] = "  " + rows[3]["goal"] + "\n"
    rows[5]["sol2"] = rows[5]["sol1"]
    # A row of the asked split among the examples: it is never an example of itself.
    return {"validation": rows[:14], "train": [*rows[14:], rows[0], rows[0], rows[1]]}


def winogrande():
    def row(i):
        name, place, work, tool, _ = PEOPLE[i % 12]
        other_name, *_ = other(i, 1 + i // 12)
        end = ["was in a hurry.", f"left {tool} at {place}.", "  had slept badly . "][i % 3]
        return {"sentence": f"{name} met {other_name} near {place} and did not stop because _ {end}", "option1": name, "option2": other_name, "answer": str(1 + i % 2)}

    rows = [row(i) for i in range(30)]
    return {"validation": rows[:12], "train": rows[12:]}


def arc(shift):
    def row(i):
        name, place, _, tool, year = PEOPLE[i % 12]
        n = 3 + (i + shift) % 3
        labels = ["1", "2", "3", "4", "5"] if i % 4 == 3 else ["A", "B", "C", "D", "E"]
        right = (i * 7 + shift) % n
        texts = [other(i, k + 1)[3] for k in range(n)]
        texts[right] = tool
        return {"id": f"row_{shift}_{i}", "question": f"What does {name} use at {place} since {year + shift}?", "choices": {"text": texts, "label": labels[:n]}, "answerKey": labels[right]}

    rows = [row(i) for i in range(48)]
    return {"test": rows[:12], "train": rows[12:]}


def sciq():
    def row(i):
        name, place, work, tool, _ = PEOPLE[i % 12]
        support = [f" At {place}, {name} {work} with {tool}.", "", f"{tool.capitalize()} belongs to {name}.  "][i % 3]
        return {"question": f"Which tool is kept at {place}{'?' * (i // 12 + 1)}", "distractor3": other(i, 3)[3], "distractor1": other(i)[3], "distractor2": other(i, 2)[3], "correct_answer": tool, "support": support}

    rows = [row(i) for i in range(30)]
    return {"test": rows[:12], "train": rows[12:]}


def logiqa():
    def row(i):
        name, place, work, tool, year = PEOPLE[i % 12]
        options = [f"{name} {work}.", f"{tool} is at {place}.", f"It was before {year}.", "Nothing follows."]
        return {"label": "abcd"[i % 4] + ("\n" if i % 5 == 0 else ""), "context": f"Whoever {work} needs {tool}. {name} has none.", "question": f"Which of these follows{' at all' * (i // 12)}?", "options": options}

    rows = [row(i) for i in range(24)]
    return {"test": rows[:10], "train": rows[10:]}


def wsc():
    def row(i):
        name, place, _, tool, _ = PEOPLE[i % 12]
        first, other_first = name.split()[0], other(i)[0].split()[0]
        text = f"{first} gave {tool} to {other_first} because {'she' if i % 2 else 'he'} did n't need it at {place} ( so they \" say \" ) , did {first} ."
        pronoun = "she" if i % 2 else "he"
        return {"text": text, "span1_index": 0, "span2_index": text.split().index(pronoun), "span1_text": first, "span2_text": pronoun, "idx": i, "label": i % 2}

    rows = [row(i) for i in range(20)]
    return {"validation": rows[:8], "train": rows[8:]}


def hellaswag():
    def row(i):
        name, place, work, tool, _ = PEOPLE[i % 12]
        endings = [f"{other(i, k)[2]} with  {other(i, k)[3]} [step] slowly." for k in range(4)]
        endings[(i * 3) % 4] = f" {work} with {tool}."
        return {"ind": i, "activity_label": ["Crafts", "Élan [title] of work"][i % 2], "ctx_a": f"{name} walks to {place}. [header] How it begins [title] At dawn.", "ctx_b": ["the OTHERS  wait and", "", "ÉVERYONE"][i % 3], "ctx": "", "endings": endings, "source_id": f"town~{i // 12}", "split": "val", "split_type": "indomain", "label": str((i * 3) % 4)}

    rows = [row(i) for i in range(30)]
    return {"validation": rows[:12], "train": rows[12:]}


def mmlu(subject):
    def row(i):
        name, place, _, tool, year = PEOPLE[(i * 5 + len(subject)) % 12]
        choices = [f"{tool} of {other(i, k)[4]}" for k in range(4)]
        if i == 2:
            choices = ["1", "2", "3", "1"]
        return {"question": f" {name} of {place} wrote in {year}: which one{'?' * (i + 1)}\n", "subject": subject, "choices": choices, "answer": (i * 3) % 4}

    rows = [row(i) for i in range(16)]
    return {"test": rows[:8], "dev": rows[8:13], "validation": rows[13:]}


def truthfulqa():
    def row(i):
        name, place, work, tool, year = PEOPLE[i]
        right = [f"{name} {work}.", f"It is {tool}.", "I have no comment."][: 1 + i % 3]
        wrong = [f"It is {other(i, k)[3]}, since {year}." for k in range(1, 3 + i % 2)]
        return {"question": f"What happens at {place}?", "mc1_targets": {"choices": [right[0], *wrong], "labels": [1] + [0] * len(wrong)}, "mc2_targets": {"choices": [*right, *wrong], "labels": [1] * len(right) + [0] * len(wrong)}}

    return {"validation": [row(i) for i in range(10)]}


def blimp(uid):
    def row(i):
        name, _, work, tool, _ = PEOPLE[i]
        good, bad = (f"{name} {work} with {tool}.", f"{name} {work.split()[0][:-1]} with {tool}.")
        return {"sentence_good": good, "sentence_bad": bad, "field": "morphology", "linguistics_term": "subject_verb_agreement", "UID": uid, "simple_LM_method": True, "one_prefix_method": True, "two_prefix_method": False, "lexically_identical": False, "pair_id": i}

    return {"train": [row(i) for i in range(12)]}


def wikitext():
    def page(i):
        name, place, work, tool, year = PEOPLE[i]
        lines = [
            "", f" = {name} = ", "",
            f" {name} ( born {year} @,@ 000 days ago ; near {place} ) is known to be one who {work} : a well @-@ known craft . ",
            f" The tool is ' {tool} ' and it weighs 1 @.@ {i} kilograms at {i} ° north ; \" no more , no less \" , says {name.split()[0]} 's family . ",
            "", " = = Later years = = ", "", f" Who else was there ? N people [ see below ] {{ or none }} ! The boys ' choir sang /' {i}/ . ", "", " = = = Notes = = = ", "",
        ]
        return "\n".join(lines * (1 + (i % 4) * 2)) + "\n" * (i % 2)

    pages = [{"page": page(i)} for i in range(12)]
    return {"test": pages, "train": pages[:4]}


def gsm8k():
    def row(i):
        name, place, work, tool, _ = PEOPLE[i % 12]
        a, b = 3 + i, 1000 * (i % 3) + 7
        total = f"{a * b:,}" if i % 2 else str(a * b)
        return {"question": f"{name} {work} at {place} {a} times a day and each time earns ${b}. How much is that a day?", "answer": f"One day is {a}*{b} = <<{a}*{b}={a * b}>>{total} dollars.\n#### {total}"}

    rows = [row(i) for i in range(30)]
    return {"test": rows[:8], "train": rows[8:]}


def drop():
    empty = {"day": "", "month": "", "year": ""}

    def answer(number="", date=empty, spans=()):
        return {"number": number, "date": date, "spans": list(spans), "worker_id": "", "hit_id": ""}

    def row(i):
        name, place, work, tool, year = PEOPLE[i % 12]
        kinds = [
            (f"In which year did {name} come?", answer(number=str(year))),
            (f"Who {work}, and with what?", answer(spans=[name, tool])),
            ("When was the feast?", answer(date={"day": str(1 + i), "month": "May", "year": ""})),
            ("Where?", answer(spans=[place])),
        ]
        question, first = kinds[i % 4]
        others = [answer(spans=[f"The {place.split()[-1]}"]), first, answer(number=f"{year}.0")][: i % 4]
        validated = {key: [other[key] for other in others] for key in ("number", "date", "spans", "worker_id", "hit_id")}
        return {"section_id": f"town_{i}", "query_id": f"query-{i}", "passage": f"{name} came to {place} in {year} and {work} there ever since, with {tool}. The feast was on {1 + i} May.", "question": question, "answer": first, "validated_answers": validated}

    rows = [row(i) for i in range(16)]
    return {"validation": rows[:8], "train": rows[8:]}


# Repository, configuration, splits.
DATASETS = [
    ("EleutherAI/lambada_openai", None, lambada()),
    ("baber/piqa", None, piqa()),
    ("allenai/winogrande", "winogrande_xl", winogrande()),
    ("allenai/ai2_arc", "ARC-Easy", arc(0)),
    ("allenai/ai2_arc", "ARC-Challenge", arc(1)),
    ("allenai/sciq", None, sciq()),
    ("EleutherAI/logiqa", "logiqa", logiqa()),
    ("aps/super_glue", "wsc.fixed", wsc()),
    ("Rowan/hellaswag", None, hellaswag()),
    ("cais/mmlu", "anatomy", mmlu("anatomy")),
    ("cais/mmlu", "us_foreign_policy", mmlu("us_foreign_policy")),
    ("truthfulqa/truthful_qa", "multiple_choice", truthfulqa()),
    ("nyu-mll/blimp", "irregular_plural_subject_verb_agreement_1", blimp("irregular_plural_subject_verb_agreement_1")),
    ("EleutherAI/wikitext_document_level", "wikitext-2-raw-v1", wikitext()),
    ("openai/gsm8k", "main", gsm8k()),
    ("EleutherAI/drop", None, drop()),
]

# As they lie on the Hub: nested columns, several parts, a configuration in a folder.
PARQUET = [
    ("allenai/ai2_arc", "ARC-Easy", "test", "allenai/ai2_arc/ARC-Easy/test-{}.parquet", 2),
    ("EleutherAI/drop", None, "validation", "EleutherAI/drop/data/validation-{}.parquet", 1),
]


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "tests/data/eval"
    for repo, config, splits in DATASETS:
        folder = out / "rows" / repo / (config or "")
        folder.mkdir(parents=True, exist_ok=True)
        for split, rows in splits.items():
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
            (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        print("pyarrow is not there: no Parquet files")
        return
    for repo, config, split, name, n_parts in PARQUET:
        rows = next(splits for other, known, splits in DATASETS if (other, known) == (repo, config))[split]
        size = -(-len(rows) // n_parts)
        for i in range(n_parts):
            path = out / "hub" / name.format(f"{i:05}-of-{n_parts:05}")
            path.parent.mkdir(parents=True, exist_ok=True)
            parquet.write_table(pyarrow.Table.from_pylist(rows[i * size : (i + 1) * size]), path, compression="snappy")


if __name__ == "__main__":
    main()
