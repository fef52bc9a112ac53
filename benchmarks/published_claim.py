"""The published claim as a project to compare: synthetic ratings with the published counts, means and spreads.

``python -m benchmarks.published_claim FOLDER`` writes a git repository with ratings of three models on 30 prompts. They
are made up. What they share with the published ones are, for each of the three contrasts, the mean difference, the standard
deviation of the differences and the prompts that went up, down and stayed; the three means; and the share of fours.
"""

import argparse
import json
import subprocess
from pathlib import Path

RATINGS = {
    "base": "112334444444444444444444444555",
    "sft-100": "144441334444444444444444555344",
    "sft-150": "255444443344444444444444344334",
}
"""One digit a prompt, found by integer programming under those conditions."""


def write_project(folder: Path) -> None:
    """Write params, scores and ratings to ``folder`` and commit them."""
    from pipelines.evaluation.score import RATED, UNSCORED
    from pipelines.evaluation.statistics import mean_interval
    from pipelines.provenance.lineage import write_json

    folder.mkdir(parents=True)
    models = "".join(f"  {model}: models/{model}\n" for model in RATINGS)
    (folder / "params.yaml").write_text(f"models:\n{models}", encoding="utf-8")
    for model, digits in RATINGS.items():
        rows = [{"prompt_id": f"p{n:02}", "status": RATED, "index": float(d)} for n, d in enumerate(digits, 1)]
        found = mean_interval([float(d) for d in digits])
        write_json(
            folder / "reports" / "eq" / f"{model}.json",
            {
                "index": found.mean,
                "se": found.se,
                "ci_low": found.low,
                "ci_high": found.high,
                "degenerate_rate": 0.0,
                "n": found.n,
                f"n_{UNSCORED}": 0,
                "judge": "synthetic ratings (exploratory)",
                "prompts": "synthetic",
            },
        )
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "reports" / "eq" / f"{model}.ratings.jsonl").write_text(lines, encoding="utf-8")
    git = ("git", "-C", str(folder), "-c", "user.name=example", "-c", "user.email=example@example.com")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "Synthetic ratings"], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    write_project(parser.parse_args().folder)
