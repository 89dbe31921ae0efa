"""Words about scenes: one sentence for the whole, one phrase per object."""

from tavid_jax.data.synthetic import looks, motions
from tavid_jax.data.synthetic.scene import Scene

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
_PLURALS = {"box": "boxes", "cross": "crosses", "person": "people", "fish": "fish"}
_GAITS = {"person": "walks", "dog": "runs", "bird": "flies", "fish": "swims"}
_SUFFERS = {
    "pushes": "is pushed away",
    "tips": "is tipped over",
    "lifts": "is lifted up",
    "touches": "is touched",
}


def _article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _plural(words: str) -> str:
    head, _, shape = words.rpartition(" ")
    return f"{head} {_PLURALS.get(shape, shape + 's')}".strip()


def object_name(scene: Scene, number: int) -> str:
    """Colour, texture and shape of sprite `number` (1..S), e.g. "red striped disc"."""
    look = scene.objects[number - 1]
    texture = "" if look.texture in ("plain", looks.FLAT) else f"{look.texture} "
    return f"{look.colour} {texture}{scene.shapes[number - 1]}"


def deed(scene: Scene, number: int) -> str:
    """What sprite `number` does, e.g. "circles around"."""
    if number == scene.actor:
        return f"{_GAITS.get(scene.shapes[number - 1], 'slides')} to the target and {scene.deed} it"
    if number == scene.target:
        return _SUFFERS[scene.deed]
    return motions.WORDS.get(scene.kinds[number - 1], "stands still")


def local_captions(scene: Scene) -> tuple[str, ...]:
    """One phrase per object: what it is and how it moves."""
    if scene.config.caption_style == "short":
        return tuple(_short_phrase(scene, n) for n in range(1, len(scene.shapes) + 1))
    return tuple(
        f"{_article(object_name(scene, number))} that {deed(scene, number)}"
        for number in range(1, len(scene.shapes) + 1)
    )


def _plain_name(scene: Scene, number: int) -> str:
    """Colour and shape, e.g. "a red disc"."""
    return _article(f"{scene.objects[number - 1].colour} {scene.shapes[number - 1]}")


def _short_phrase(scene: Scene, number: int) -> str:
    """ "a red disc moves left"; without a motion on a free path or in an interaction."""
    kind = scene.kinds[number - 1]
    silent = kind in motions.UNSAID_KINDS or scene.actor > 0
    return _plain_name(scene, number) + ("" if silent else f" {motions.WORDS[kind]}")


def short_caption(scene: Scene) -> str:
    """Objects and motions in as few words as possible, without a full stop.

    "a red disc moves left and a pink hoop stands still"; of an interaction "a red disc touches a
    blue box" or, in the share `says_target` of scenes, "a red disc touches the target blue box".
    """
    if scene.actor > 0:
        name = f"{scene.objects[scene.target - 1].colour} {scene.shapes[scene.target - 1]}"
        aim = f"the target {name}" if scene.says_target else _article(name)
        return f"{_plain_name(scene, scene.actor)} {scene.deed} {aim}"
    phrases = [_short_phrase(scene, number) for number in range(1, len(scene.shapes) + 1)]
    return " and ".join(phrases) or "an empty view"


def _surroundings(scene: Scene) -> str:
    ground = scene.ground.texture
    camera = "drifts slowly" if scene.camera_moves else "is still"
    plain = ground in ("plain", looks.GREY)
    place = "over a plain grey background" if plain else f"over {ground}"
    return f"{place}; the camera {camera}."


def caption(scene: Scene) -> str:
    """One sentence about the objects, the background and the camera.

    Of look-alikes it does not say which one is the target: only the mask does.
    """
    if scene.config.caption_style == "short":
        return short_caption(scene)
    if scene.actor > 0:
        name = object_name(scene, scene.target)
        alike = scene.shapes.count(scene.shapes[scene.target - 1])
        alike -= scene.shapes[scene.actor - 1] == scene.shapes[scene.target - 1]
        aim = f"the target {name}"
        if alike > 1:
            aim = f"the target among {_NUMBERS[alike]} {_plural(name)}"
        walks = _GAITS.get(scene.shapes[scene.actor - 1], "slides")
        text = f"{_article(object_name(scene, scene.actor))} {walks} to {aim} and {scene.deed} it"
    else:
        parts = [
            f"{_article(object_name(scene, number))} {deed(scene, number)}"
            for number in range(1, len(scene.shapes) + 1)
        ]
        text = " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]])) or "an empty view"
    return f"{text}, {_surroundings(scene)}".capitalize()
