"""A report of finished runs: tables, charts and every chain on one page that opens anywhere.

    python -m launchers.report --workdirs=runs/leco_arithmetic --output=runs/report.html

Several work directories (of the same problems) are read as one, as by launchers.compare. What is
written goes by the suffix: .html, the page; .md, its tables as Markdown; .csv, one line a method.
Several files are given by commas.

Exit codes: 0 done; 1 a flag or a file is wrong (the message says which).
"""

from absl import flags

from launchers import runtime
from leco_jax.evaluation.report import Report
from leco_jax.storage.files import write_text
from leco_jax.storage.paths import as_path

_WORKDIRS = flags.DEFINE_list("workdirs", None, "Of launchers.leco, by commas.", required=True)
_OUTPUT = flags.DEFINE_list("output", None, "Files: .html, .md or .csv, by commas.", required=True)
_AGAINST = flags.DEFINE_string("against", "cot", "The method that the others are compared with.")


def main() -> int:
    """Writes the files."""
    forms = {".html": Report.html, ".md": Report.markdown, ".csv": Report.csv}
    outputs = [as_path(name) for name in _OUTPUT.value]
    for path in outputs:
        if path.suffix not in forms:
            raise ValueError(f"--output={path}: name a file that ends in {', '.join(forms)}")
    report = Report([as_path(name) for name in _WORKDIRS.value], against=_AGAINST.value)
    for path in outputs:
        write_text(path, forms[path.suffix](report))
        print(path)
    return runtime.DONE


if __name__ == "__main__":
    runtime.run(main)
