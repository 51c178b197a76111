"""Images per second and core: likewise.views against torchvision's and lightly's SimCLR pipelines.

    python benchmarks/views.py --setup    # once: makes .benchmarks/rivals, about 1 GB
    python benchmarks/views.py            # about a minute

The same operations on both sides: random resized crop (0.2, 1), flip ½, jitter (0.4, 0.4, 0.4, 0.1) with 0.8,
gray 0.2, to float, normalise; with and without blur (½, σ 0.1 to 2). Images are decoded and at the training size on
both sides. torchvision runs in whichever of its four forms (v1 or v2, Pillow images or tensors) is quickest;
lightly's SimCLRTransform makes two views per call and both count. One thread; the time is the CPU time of this
process, so that a busy machine does not count against anyone; contestants take turns and each keeps its best turn.
"""

import argparse
import importlib.util
import platform
import re
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RIVALS = ROOT / ".benchmarks" / "rivals"
PACKAGES = ["torch==2.13.0", "numpy", "pillow", "packaging"]
# Without their dependencies: torchvision asks for the torch it was built for, lightly for a training framework.
BARE = ["torchvision==0.28.0", "lightly==1.6.0", "lightning-utilities"]
TURNS = 7
TURN_SECONDS = 0.15  # at least, so that caches and memory are as warm for everyone
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def setup() -> None:
    """Make the rivals' environment, beside and not in the project's."""
    venv.create(RIVALS, with_pip=True, clear=True)
    pip = [str(python_of(RIVALS)), "-m", "pip", "install"]
    subprocess.run([*pip, *PACKAGES], check=True)
    subprocess.run([*pip, "--no-deps", *BARE], check=True)


def import_torchvision() -> Any:
    """torchvision, also where its compiled operators do not fit the torch at hand (the CPU build).

    Its Python files only refer to those operators when imported and its transforms use none, so it is enough
    that names exist for them.
    """
    import torch

    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        spec = importlib.util.find_spec("torchvision")
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin).with_name("_meta_registrations.py").read_text()
        names = set(re.findall(r"""(?:torchvision::|register_meta\(["'])(\w+)""", source))
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in sorted(names):
            library.define(f"{name}(Tensor x) -> Tensor")
        import torchvision

        torchvision.placeholders = library  # the names live as long as the library object
    return torchvision


def photos(count: int, side: int) -> list[Any]:
    """Smooth Pillow images; no contestant's time depends on what they show."""
    import numpy as np
    from PIL import Image

    small = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return [Image.fromarray(s).resize((side, side), Image.Resampling.BICUBIC) for s in small]


def torchvision_pipelines(side: int, blur: bool) -> dict[str, tuple[Callable[[Any], Any], bool]]:
    """Four equal pipelines, each with whether it takes tensors."""
    import torch
    from torchvision import transforms as v1
    from torchvision.transforms import v2

    kernel = max(3, side // 10 // 2 * 2 + 1)  # SimCLR's: a tenth of the side, odd

    def chain(v: Any, last: list[Any]) -> Any:
        steps = [
            v.RandomResizedCrop(side, scale=(0.2, 1.0)),
            v.RandomHorizontalFlip(),
            v.RandomApply([v.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            v.RandomGrayscale(0.2),
        ]
        if blur:
            steps.append(v.RandomApply([v.GaussianBlur(kernel, (0.1, 2.0))], p=0.5))
        return v.Compose([*steps, *last, v.Normalize(MEAN, STD)])

    to_float = v2.ToDtype(torch.float32, scale=True)
    return {
        "torchvision v1, Pillow": (chain(v1, [v1.ToTensor()]), False),
        "torchvision v1, tensors": (chain(v1, [v1.ConvertImageDtype(torch.float32)]), True),
        "torchvision v2, Pillow": (chain(v2, [v2.ToImage(), to_float]), False),
        "torchvision v2, tensors": (chain(v2, [to_float]), True),
    }


def contestants(side: int, blur: bool, count: int) -> dict[str, Callable[[], int]]:
    """Name to a function that makes some views and says how many."""
    import numpy as np
    import torch
    from lightly.transforms.simclr_transform import SimCLRTransform

    from likewise.config.settings import ViewSettings
    from likewise.views.render import Views

    pillows = photos(count, side)
    arrays = np.stack([np.asarray(p) for p in pillows])
    tensors = [torch.from_numpy(a).permute(2, 0, 1).contiguous() for a in arrays]
    batch = torch.from_numpy(np.concatenate([arrays] * 4))
    views = Views(ViewSettings(blur=0.5 if blur else 0.0, mean=MEAN, std=STD))
    generator = torch.Generator().manual_seed(0)
    lightly = SimCLRTransform(input_size=side, cj_strength=0.5, min_scale=0.2, gaussian_blur=0.5 if blur else 0.0)

    def ours() -> int:
        return len(views(batch, generator))

    def two_views() -> int:
        return sum(len(lightly(image)) for image in pillows)

    def each(pipeline: Callable[[Any], Any], images: list[Any]) -> Callable[[], int]:
        return lambda: len([pipeline(image) for image in images])

    rivals = {
        name: each(pipeline, tensors if takes_tensors else pillows)
        for name, (pipeline, takes_tensors) in torchvision_pipelines(side, blur).items()
    }
    return {"likewise": ours, **rivals, "lightly SimCLRTransform": two_views}


def images_per_second(run: Callable[[], int]) -> float:
    """Over one turn, by the CPU time of this process."""
    made, spent, start = 0, 0.0, time.process_time()
    while spent < TURN_SECONDS:
        made += run()
        spent = time.process_time() - start
    return made / spent


def race(side: int, blur: bool, count: int) -> None:
    """Print the table of one setting: best and median turn of each contestant, and our ratio to it."""
    runs = contestants(side, blur, count)
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(TURNS + 1):
        for name, run in runs.items():
            rate = images_per_second(run)
            if turn:  # the first warms up
                rates[name].append(rate)
    ours = rates["likewise"]
    quickest = max((name for name in rates if name.startswith("torchvision")), key=lambda name: max(rates[name]))
    print(f"\n### {side} px, blur {'½' if blur else 'off'}\n")
    print("| pipeline | images/s per core, best | median | likewise is faster, best | median |")
    print("| --- | --- | --- | --- | --- |")
    for name, found in rates.items():
        best, median = max(found), sorted(found)[len(found) // 2]
        ratios = f"{max(ours) / best:.1f}× | {sorted(ours)[len(ours) // 2] / median:.1f}×"
        label = f"**{name}**" if name == quickest else name
        print(f"| {label} | {best:,.0f} | {median:,.0f} | {ratios} |")


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setup", action="store_true", help="make the rivals' environment and stop")
    if parser.parse_args().setup:
        setup()
        return
    if Path(sys.prefix).resolve() != RIVALS.resolve():
        if not python_of(RIVALS).exists():
            sys.exit("The rivals are not installed; run: python benchmarks/views.py --setup")
        sys.exit(subprocess.run([str(python_of(RIVALS)), __file__]).returncode)
    sys.path.insert(0, str(ROOT / "src"))
    import torch

    torchvision = import_torchvision()
    import lightly
    import PIL

    torch.set_num_threads(1)
    print(f"{cpu()}; Python {platform.python_version()}, torch {torch.__version__}, Pillow {PIL.__version__},")
    print(f"torchvision {torchvision.__version__}, lightly {lightly.__version__}; one thread, CPU time")
    for side, blur, count in ((32, False, 64), (32, True, 64), (224, False, 12), (224, True, 12)):
        race(side, blur, count)


if __name__ == "__main__":
    main()
