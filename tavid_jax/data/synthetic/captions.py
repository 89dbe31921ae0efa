"""Words about scenes: one sentence for the whole, one phrase per object."""

from tavid_jax.data.synthetic import motions
from tavid_jax.data.synthetic.scene import Scene

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


def _article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def object_name(scene: Scene, number: int) -> str:
    """Colour, texture and shape of sprite `number` (1..S), e.g. "red striped disc"."""
    look = scene.objects[number - 1]
    texture = "" if look.texture == "plain" else f"{look.texture} "
    return f"{look.colour} {texture}{scene.shapes[number - 1]}"


def local_captions(scene: Scene) -> tuple[str, ...]:
    """One phrase per object: what it is and how it moves."""
    phrases = []
    for number, kind in enumerate(scene.kinds, start=1):
        if number == scene.actor:
            deed = f"walks to the target and {scene.deed} it"
        elif number == scene.target:
            deed = {"pushes": "is pushed away", "tips": "is tipped over", "lifts": "is lifted up"}.get(
                scene.deed, "is touched"
            )
        else:
            deed = motions.WORDS.get(kind, "stands still")
        phrases.append(f"{_article(object_name(scene, number))} that {deed}")
    return tuple(phrases)


def caption(scene: Scene) -> str:
    """A sentence about objects, background and camera."""
    camera = "the camera drifts slowly" if scene.camera_moves else "the camera is still"
    ground = f"over {'a plain' if scene.ground.texture == 'plain' else scene.ground.texture} background"
    ground = ground.replace("over a plain", "over a plain grey")
    if scene.actor > 0:
        alike = sum(look == scene.objects[scene.target - 1] for look in scene.objects)
        what = object_name(scene, scene.target)
        aim = f"the target {what}" if alike == 1 else f"the target among {_NUMBERS[alike]} {what}s"
        doer = _article(object_name(scene, scene.actor))
        return f"{doer} walks to {aim} and {scene.deed} it, {ground}; {camera}.".capitalize()
    parts = [
        f"{_article(object_name(scene, number))} {motions.WORDS.get(kind, 'stands still')}"
        for number, kind in enumerate(scene.kinds, start=1)
    ]
    if not parts:
        return f"An empty view {ground}; {camera}."
    listed = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    return f"{listed}, {ground}; {camera}.".capitalize()
