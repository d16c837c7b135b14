"""Class names of data sets whose files may lack them, in label order.

Source: the `meta` files of the published archives; CIFAR-100's fine names are in alphabetical order.
"""

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

CIFAR100 = (
    *("apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle"),
    *("bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle"),
    *("chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur"),
    *("dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard"),
    *("lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain"),
    *("mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree"),
    *("plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket"),
    *("rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider"),
    *("squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger"),
    *("tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm"),
)

CLASS_NAMES = {"cifar10": CIFAR10, "cifar100": CIFAR100}


def class_names(name: str, classes: int) -> tuple[str, ...]:
    """The class names of data set `name`, or "class 0", "class 1", ... where they are not known.

    >>> class_names("cifar100", 100)[-1], class_names("mine", 2)
    ('worm', ('class 0', 'class 1'))
    """
    known = CLASS_NAMES.get(name, ())
    return known if len(known) == classes else tuple(f"class {number}" for number in range(classes))
