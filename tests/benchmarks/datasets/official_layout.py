"""Writes the eight datasets in their official layouts, with images whose colour tells the label."""

import functools
import io
import itertools
import random
import string
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZE = (12, 9)  # width and height of an image


@functools.cache
def picture(label, kind="JPEG", size=SIZE):
    """The bytes of an image in the colour of a label."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour(label)).save(buffer, kind, quality=95)
    return buffer.getvalue()


def colour(label):
    """Up to 240 labels have colours that JPEG does not mix up."""
    return (20 + label % 12 * 18, 20 + label // 12 * 11, 90)


def label_of(image):
    """The label that an image shows in its middle."""
    red, green, _ = image.convert("RGB").getpixel((image.width // 2, image.height // 2))
    return round((red - 20) / 18) + 12 * round((green - 20) / 11)


def put(path, content):
    """Writes bytes or lines; folders are made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, bytes):
        content = "".join(f"{line}\n" for line in content).encode()
    path.write_bytes(content)


def mat(path, **variables):
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables, do_compression=True)


def flowers(root, trn, val, tst):
    """Labels from 1 for each image of the three official sets; image numbers are mixed."""
    labels = [*trn, *val, *tst]
    numbers = random.Random(0).sample(range(1, len(labels) + 1), len(labels))
    by_number = np.zeros((1, len(labels)), np.uint8)
    for number, label in zip(numbers, labels, strict=True):
        put(root / f"flowers-102/jpg/image_{number:05d}.jpg", picture(label - 1))
        by_number[0, number - 1] = label
    mat(root / "flowers-102/imagelabels.mat", labels=by_number)
    cuts = (0, len(trn), len(trn) + len(val), len(labels))
    parts = [np.array([numbers[a:b]], np.uint16) for a, b in itertools.pairwise(cuts)]
    mat(root / "flowers-102/setid.mat", trnid=parts[0], valid=parts[1], tstid=parts[2])


def scenes(root, train, test, unlisted=()):
    """The class of each image; classes are numbered in alphabetical order."""
    order = sorted(set(train) | set(test) | set(unlisted))
    count = 0
    for name, scenes in (("Train", train), ("Test", test), (None, unlisted)):
        lines = []
        for scene in scenes:
            count += 1
            lines.append(f"{scene}/Room {count:05d}_b.JPG")
            put(root / "scenes-67/Images" / lines[-1], picture(order.index(scene)))
        if name:
            put(root / f"scenes-67/{name}Images.txt", lines)


def birds(root, train, test):
    """Labels from 1; training and test images take turns in the list as long as both last."""
    folder = root / "CUB_200_2011"
    names = {label: f"{label:03d}.Bird_{label}" for label in sorted({*train, *test})}
    turns = [(1, label) for label in train] + [(0, label) for label in test]
    random.Random(0).shuffle(turns)
    images, labels, split, boxes = [], [], [], []
    for number, (training, label) in enumerate(turns, start=1):
        image = f"{names[label]}/Bird_{number:05d}.jpg"
        put(folder / "images" / image, picture(label - 1))
        images.append(f"{number} {image}")
        labels.append(f"{number} {label}")
        split.append(f"{number} {training}")
        boxes.append(f"{number} 2.0 2.0 4.0 3.0")
    put(folder / "images.txt", images)
    put(folder / "image_class_labels.txt", labels)
    put(folder / "train_test_split.txt", split)
    put(folder / "bounding_boxes.txt", boxes)
    put(folder / "classes.txt", [f"{label} {name}" for label, name in names.items()])


def cars(root, train, test):
    """Labels from 1."""
    folder = root / "stanford_cars"

    def annotations(labels, with_labels=True):
        corners = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
        fields = [*corners, *(["class"] if with_labels else []), "fname"]
        table = np.zeros((1, len(labels)), dtype=[(field, object) for field in fields])
        for at, label in enumerate(labels):
            record = {corner: np.uint16(3) for corner in corners}
            record |= {"class": np.uint8(label), "fname": f"{at + 1:05d}.jpg"}
            table[0, at] = tuple(record[field] for field in fields)
        return table

    for split, labels in (("train", train), ("test", test)):
        for at, label in enumerate(labels):
            put(folder / f"cars_{split}/{at + 1:05d}.jpg", picture(label - 1))
        known = split == "train"
        mat(folder / f"devkit/cars_{split}_annos.mat", annotations=annotations(labels, known))
    mat(folder / "cars_test_annos_withlabels.mat", annotations=annotations(test))
    names = np.empty((1, max(train)), object)
    names[0, :] = [f"Make Model {label} Sedan 2012" for label in range(1, max(train) + 1)]
    mat(folder / "devkit/cars_meta.mat", class_names=names)


def aircraft(root, train, val, test):
    """Labels from 0."""
    folder = root / "fgvc-aircraft-2013b/data"
    variants = [f"Wing {label} X-{label}/A" for label in range(max(*train, *val) + 1)]
    put(folder / "variants.txt", variants)
    number, lines = 1000000, {}
    for name, labels in (("train", train), ("val", val), ("test", test)):
        lines[name] = []
        for label in labels:
            number += 7
            put(folder / f"images/{number}.jpg", picture(label))
            lines[name].append(f"{number} {variants[label]}")
    lines["trainval"] = lines["train"] + lines["val"]
    for name, content in lines.items():
        put(folder / f"images_variant_{name}.txt", content)


TEN = [
    "jumping",
    "phoning",
    "playinginstrument",
    "reading",
    "ridingbike",
    "ridinghorse",
    "running",
    "takingphoto",
    "usingcomputer",
    "walking",
]


def actions(root, **splits):
    """For each image of ``train`` and ``val`` the objects in it: a tuple of actions, or a name.

    People stand side by side in boxes of 4 × 5 pixels with one pixel between, starting at column 1.
    Their colour is that of the first action's position in the official order, where other is 0.
    """
    folder = root / "VOCdevkit/VOC2012"
    count = 0
    for split, images in splits.items():
        lists = {action: [] for action in TEN}
        names = []
        for objects in images:
            count += 1
            names.append(f"2012_{count:06d}")
            canvas = Image.new("RGB", (5 * len(objects) + 1, 9), colour(239))
            annotation = ElementTree.Element("annotation")
            for at, entry in enumerate(objects):
                person = isinstance(entry, tuple)
                box = (1 + 5 * at, 2, 5 + 5 * at, 7)
                label = TEN.index(entry[0]) + 1 if person and entry else 0
                canvas.paste(colour(label if person else 200), box)
                annotation.append(_object(entry, box))
                if person:
                    for action in TEN:
                        does = 1 if action in entry else -1
                        lists[action].append(f"{names[-1]} {at + 1:2d} {does:2d}")
            canvas.save(_made(folder / f"JPEGImages/{names[-1]}.jpg"), quality=100, subsampling=0)
            put(folder / f"Annotations/{names[-1]}.xml", ElementTree.tostring(annotation))
        put(folder / f"ImageSets/Action/{split}.txt", names)
        for action, lines in lists.items():
            put(folder / f"ImageSets/Action/{action}_{split}.txt", lines)


def _made(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _object(entry, box):
    found = ElementTree.Element("object")
    person = isinstance(entry, tuple)
    ElementTree.SubElement(found, "name").text = "person" if person else entry
    if person:
        flags = ElementTree.SubElement(found, "actions")
        for action in (*TEN, "other"):
            does = action in entry or (action == "other" and not entry)
            ElementTree.SubElement(flags, action).text = str(int(does))
    corners = ElementTree.SubElement(found, "bndbox")
    left, top, right, bottom = box  # pixels from 0, the last ones outside
    for name, value in (("xmax", right), ("xmin", left + 1), ("ymax", bottom), ("ymin", top + 1)):
        ElementTree.SubElement(corners, name).text = str(float(value))  # some official ones are
    return found


LETTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase


def letters(root, good, bad):
    """How many images of each character; digits are characters too, numbered from 1."""
    for quality, counts in (("GoodImg", good), ("BadImag", bad)):
        for letter, count in counts.items():
            number = LETTERS.index(letter) + 1
            for at in range(1, count + 1):
                name = f"Sample{number:03d}/img{number:03d}-{at:05d}.png"
                for kind, shown in (("Bmp", number), ("Msk", 0)):
                    path = root / "chars74k/English/Img" / quality / kind / name
                    put(path, picture(shown, "PNG"))


def svhn(root, train, test):
    """Official labels: 1 to 9, and 10 for the digit 0."""
    for split, labels in (("train", train), ("test", test)):
        pixels = np.zeros((32, 32, 3, len(labels)), np.uint8)
        pixels[:] = np.array([colour(label) for label in labels], np.uint8).T
        y = np.array(labels, np.uint8)[:, None]
        mat(root / f"svhn/{split}_32x32.mat", X=pixels, y=y)


def all_eight(root):
    """A few images of each dataset; every dataset has another number of classes."""
    flowers(root, trn=[77, 5, 100], val=[100, 5, 77], tst=[5, 77, 100, 5])
    scenes(root, train=["bar", "inside_bus", "bar", "inside_bus"], test=["inside_bus", "bar"])
    birds(root, train=[1, 2, 3, 4, 4], test=[4, 3, 1, 2])
    cars(root, train=[2, 1, 5, 4, 3, 1], test=[5, 1, 2])
    aircraft(root, train=[0, 1, 2, 3], val=[5, 4], test=[5, 0])
    people = [(action,) for action in TEN] + [()]
    actions(
        root,
        train=[people[:2], people[2:], [("walking", "phoning")]],
        val=[people[3:9], people[:3]],
    )
    letters(root, good=dict.fromkeys("03AZagz", 4), bad=dict.fromkeys("AaMg", 3))
    svhn(root, train=[*range(1, 11)], test=[10, 3, 10])
    return root
