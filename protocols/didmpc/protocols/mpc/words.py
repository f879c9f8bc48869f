"""Words to read aloud: four words and two digits, 38 bits of a hash.

The list has 256 short, common English words that are hard to mistake for each other on a telephone.
"""

WORDS = tuple(
    """
acorn actor adobe agent album alley amber anchor ankle apple apron arch arrow artist atlas autumn
badge bagel bamboo banjo barley basket beacon beaver bench berry bishop blanket bonnet bottle branch
bridge broom bucket buffalo butter button cabin cactus camel candle canoe canvas carbon carrot
castle cedar cello chapel cherry chimney cinema circus citrus clover cobra cocoa comet copper coral
cotton cousin coyote cradle crater cricket crystal dagger daisy dancer delta desert diamond dinner
dolphin donkey dragon drum duchess eagle easel echo elbow elephant ember engine envoy escort falcon
farmer feather fiddle finger flamingo flute forest fossil fountain fox galaxy garden garlic gazelle
ginger giraffe glacier goblet goose granite grape guitar hammer harbor hazel helmet hermit hippo
honey horizon hotel igloo island ivory jacket jaguar jasmine jelly jewel jigsaw jungle kayak kernel
kettle kingdom kitchen kiwi ladder lagoon lantern lemon lettuce library lily lizard llama lobster
locket lumber magnet mango maple marble market mermaid meteor mirror monkey mosaic mountain muffin
museum napkin nectar needle nephew nickel noodle nugget nutmeg oasis ocean olive onion opera orbit
orchid otter oyster paddle palace panda paper parade parrot peanut pebble pelican pepper piano
picnic pigeon pilot pirate planet plum pocket polar pony poppy potato prairie prince prism pumpkin
puppet puzzle pyramid quartz quilt rabbit raccoon radar radish raven ribbon river robin rocket
saddle saffron salmon sandal saturn scarf school shadow silver sketch sparrow spider spiral spoon
squirrel statue sunset tablet temple thunder tiger tomato tractor trumpet tulip tunnel turtle
umbrella valley velvet violin walnut willow window winter wizard yogurt zebra
""".split()
)


def words_of(digest: bytes) -> tuple[str, ...]:
    """The first 38 bits of `digest` as four words and a number of two digits (about 6.6 bits of it)."""
    number = int.from_bytes(digest[4:12], "big") % 100
    return (*(WORDS[byte] for byte in digest[:4]), f"{number:02d}")
