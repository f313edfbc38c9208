"""Figures as text: of one program, and as a row of a page."""

from launchers.compilation.figures import Figures

BOUNDS = {"compute": "compute", "hbm": "HBM", "ici": "ICI", "dcn": "DCN"}


def describe(figures: Figures) -> str:
    """One program in some lines."""
    f = figures
    mesh = ", ".join(f"{name} {size}" for name, size in f.mesh.items())
    where = f"{f.num_slices} x {f.topology}" if f.num_slices > 1 else f.topology
    copies = f", {f.copies} replicas" if f.copies > 1 else ""
    lines = [f"{f.program} on {where} (mesh {mesh}{copies}), {f.batch} {f.unit}"]
    total = sum(f.memory.values())
    parts = ", ".join(f"{name} {_size(x)}" for name, x in f.memory.items() if x >= 5e4)
    if f.fits:
        lines.append(
            f"  fits: {_size(total)} of {_size(f.hbm_bytes)} a chip ({total / f.hbm_bytes:.0%}): "
            + parts
        )
    else:
        lines.append(f"  does not fit: {f.reason}; held: {parts}")
        lines += [f"    {_size(size)}  {what}" for size, what in f.largest[:10]]
    if f.seconds:
        times = ", ".join(f"{BOUNDS[n]} {1e3 * s:.2f} ms" for n, s in f.seconds.items() if s)
        sent = ", ".join(f"{kind} {_size(x)}" for kind, x in sorted(f.sent.items()) if x)
        lines += [
            f"  a chip and call: {f.flops / 1e12:.3f} TFLOP, {_size(f.moved)} of HBM; sent: "
            + (sent or "nothing")
            + (f" (between slices {_size(f.dcn_bytes)})" if f.dcn_bytes else ""),
            f"  least time: {times}; bound by {BOUNDS[f.bound]}; MFU at most {f.mfu_ceiling:.0%}, "
            f"{f.tokens / max(f.seconds.values()):,.0f} tokens/s",
        ]
    if f.open_loops:
        lines.append(f"  {f.open_loops} loops end by data and are counted at their longest")
    if f.silent_kernels:
        lines.append(f"  {f.silent_kernels} kernels state no FLOPs: these are missing above")
    lines.append(
        f"  compiled in {f.compile_cpu_seconds:.0f} CPU s, "
        f"{f.host_bytes / 1e9:.1f} GB of host memory"
    )
    return "\n".join(lines)


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count / 1e6:.2f} MB"
