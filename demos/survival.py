"""Survival of two treatments over several hospitals: curves and log-rank test, no hospital's numbers.

Each party is a hospital with a private CSV file of its patients: `arm,months,event`, one line per patient;
arm is A or B, months the time under observation, event 1 for a death and 0 for a patient who left the study
alive.

A hospital counts its own deaths and departures per month. The counts are secret-shared and added up; patients
at risk, the Kaplan-Meier curves and the log-rank statistic are computed on shares. Opened are only the
survival of both arms after 12, 24 and 36 months, and the statistic: no count of a hospital, nor of them all.
"""

import csv
import io
import math

import numpy as np
from mpyc.runtime import mpc
from private_input import read_table

MONTHS = 36
SHOWN = (12, 24, 36)
MOST_PATIENTS = 2_000  # per hospital


def counts_per_month(text: str) -> np.ndarray:
    """Deaths and departures by arm and month: (2 arms, 2 kinds, MONTHS + 1), the last for later than that."""
    rows = csv.reader(io.StringIO(text))
    if [name.strip() for name in next(rows, [])] != ["arm", "months", "event"]:
        raise ValueError("its first line must be  arm,months,event")
    counts = np.zeros((2, 2, MONTHS + 1), dtype=int)
    patients = 0
    for row in rows:
        if not row:
            continue
        try:
            arm, months, event = (cell.strip() for cell in row)
            at = int(months)
            if arm not in ("A", "B") or event not in ("0", "1") or at < 1:
                raise ValueError
        except ValueError:
            raise ValueError(
                f"line {rows.line_num} is {','.join(row)!r}; expected A or B, months from 1 on, and 0 or 1"
            ) from None
        patients += 1
        # Whoever was observed for longer than the study lasts was alive at its end.
        died = event == "1" and at <= MONTHS
        counts["AB".index(arm), 0 if died else 1, min(at, MONTHS + 1) - 1] += 1
    if not 1 <= patients <= MOST_PATIENTS:
        raise ValueError(f"it has {patients} patients; from 1 to {MOST_PATIENTS:,} are expected")
    return counts


async def main() -> None:
    hospitals = len(mpc.parties)
    if hospitals < 3:
        raise SystemExit("With two hospitals each could subtract its own numbers: three are needed.")
    mine = read_table("Your patients, as CSV with the columns arm,months,event:", counts_per_month)

    fraction_bits = 24
    secfxp = mpc.SecFxp((hospitals * MOST_PATIENTS).bit_length() + fraction_bits + 6, fraction_bits)
    await mpc.start()
    # Integers keep their sums exact; from here on nothing is opened before the end.
    total = mpc.np_sum(mpc.np_stack(mpc.input(secfxp.array(mine.astype(float)))), axis=0)
    curves, statistic = kaplan_meier_and_log_rank(secfxp, total)
    points = await mpc.output(curves)
    chi_square = float(await mpc.output(statistic))
    await mpc.shutdown()

    print(f"Survival in {hospitals} hospitals" + "".join(f"{f'{month} months':>12}" for month in SHOWN))
    for arm, row in (("A", points[: len(SHOWN)]), ("B", points[len(SHOWN) :])):
        print(f"  treatment {arm}".ljust(25) + "".join(f"{100 * value:11.1f}%" for value in row))
    p_value = math.erfc(math.sqrt(max(chi_square, 0.0) / 2))  # chi-square with one degree of freedom
    shown = f"p = {p_value:.4f}" if p_value >= 0.0001 else "p < 0.0001"
    print(f"Log-rank test: chi-square {chi_square:.2f}, {shown}")


def kaplan_meier_and_log_rank(secfxp, total):
    """Both curves at the months SHOWN, and the log-rank chi-square."""
    died = total[:, 0, :MONTHS]
    gone = total[:, 0, :] + total[:, 1, :]
    # At risk in month t: everyone who dies or leaves in t or later.
    later = np.triu(np.ones((MONTHS + 1, MONTHS + 1)))
    at_risk = (gone @ secfxp.array(later.T))[:, :MONTHS]
    n_a, n_b = at_risk[0], at_risk[1]
    d_a, d_b = died[0], died[1]
    n, d = n_a + n_b, d_a + d_b

    # All quotients of all months in one division; a zero below the line has a zero above it, and counts as 1.
    above = mpc.np_hstack([n_a, n - d, d_a, d_b])
    below = mpc.np_hstack([n, n - 1, n_a, n_b])
    below = below + (below < 1) * (1 - below)
    quotients = mpc.np_divide(above, below)
    share_a, rest, risk_a, risk_b = (quotients[i * MONTHS : (i + 1) * MONTHS] for i in range(4))

    expected = d * share_a
    variance = expected * (1 - share_a) * rest
    difference = mpc.np_sum(d_a - expected)
    statistic = difference * difference / mpc.np_sum(variance)

    curves = []
    for risk in (risk_a, risk_b):
        alive = 1 - risk
        parts = [mpc.np_prod(alive[start : start + 12]) for start in range(0, MONTHS, 12)]
        curves.append([parts[0], parts[0] * parts[1], parts[0] * parts[1] * parts[2]])
    return [point for curve in curves for point in curve], statistic


if __name__ == "__main__":
    mpc.run(main())
