/// Words that texts are made of.
#pragma once

#include <array>
#include <string_view>

namespace accuracy::words {

/// First names, each one token to most vocabularies.
inline constexpr std::array<std::string_view, 190> names{
    "Anna",      "Peter",       "Maria",    "John",     "Sarah",     "David",     "Emma",
    "Thomas",    "Laura",       "Michael",  "Julia",    "Daniel",    "Alice",     "Robert",
    "Helen",     "James",       "Grace",    "Henry",    "Clara",     "Oscar",     "Ruth",
    "Simon",     "Felix",       "Ella",     "Victor",   "Rose",      "Hugo",      "Lucy",
    "Martin",    "Ivan",        "Diana",    "Paul",     "Karen",     "George",    "Linda",
    "Frank",     "Susan",       "Walter",   "Nancy",    "Adam",      "Betty",     "Carl",
    "Eric",      "Gary",        "Hannah",   "Ian",      "Janet",     "Kevin",     "Lisa",
    "Mark",      "Nina",        "Oliver",   "Rachel",   "Steven",    "Vera",      "William",
    "Albert",    "Barbara",     "Charles",  "Deborah",  "Edward",    "Frances",   "Gerald",
    "Harriet",   "Isaac",       "Jessica",  "Keith",    "Leonard",   "Margaret",  "Nathan",
    "Olivia",    "Patrick",     "Rebecca",  "Samuel",   "Teresa",    "Vincent",   "Wendy",
    "Arthur",    "Christopher", "Dorothy",  "Eugene",   "Florence",  "Gordon",    "Heather",
    "Jacob",     "Katherine",   "Lawrence", "Monica",   "Norman",    "Raymond",   "Sophia",
    "Timothy",   "Warren",      "Andrea",   "Benjamin", "Caroline",  "Dennis",    "Elizabeth",
    "Frederick", "Harold",      "Isabella", "Jonathan", "Louis",     "Michelle",  "Nicholas",
    "Philip",    "Sandra",      "Theodore", "Wesley",   "Alexander", "Catherine", "Douglas",
    "Eleanor",   "Francis",     "Gabriel",  "Howard",   "Kenneth",   "Matthew",   "Ralph",
    "Roger",     "Tony",        "Virginia", "Amanda",   "Brian",     "Donald",    "Emily",
    "Fred",      "Greg",        "Holly",    "Jack",     "Joan",      "Kate",      "Leo",
    "Max",       "Neil",        "Pedro",    "Sam",      "Tom",       "Abigail",   "Bruce",
    "Craig",     "Duncan",      "Edith",    "Gilbert",  "Jerome",    "Lloyd",     "Molly",
    "Nelson",    "Owen",        "Penny",    "Rosa",     "Wayne",     "Amy",       "Bill",
    "Flora",     "Iris",        "Jill",     "Kelly",    "Marcus",    "Noah",      "Otto",
    "Pearl",     "Ross",        "Wallace",  "Agnes",    "Bernard",   "Cecil",     "Ernest",
    "Fay",       "Glenn",       "Herbert",  "Joel",     "Kurt",      "Luke",      "Percy",
    "Rex",       "Scott",       "Ted",      "Vernon",   "Alan",      "Boris",     "Claude",
    "Faith",     "Hope",        "Ivy",      "Kirk",     "Logan",     "Miles",     "Roland",
    "Stuart"};
/// What follows them.
inline constexpr std::array<std::string_view, 181> surnames{
    "Apple",   "Baker",   "Candle",  "River",   "Mountain", "Window",   "Garden",   "Bottle",
    "Hammer",  "Violin",  "Pencil",  "Rabbit",  "Castle",   "Forest",   "Engine",   "Bridge",
    "Market",  "Island",  "Winter",  "Button",  "Ladder",   "Mirror",   "Carpet",   "Silver",
    "Copper",  "Cotton",  "Orange",  "Lemon",   "Butter",   "Cheese",   "Tiger",    "Monkey",
    "Donkey",  "Spider",  "Eagle",   "Dragon",  "Rocket",   "Planet",   "Desert",   "Valley",
    "Harbor",  "Tunnel",  "Temple",  "Statue",  "Museum",   "Theater",  "Hospital", "Airport",
    "Station", "Factory", "Kitchen", "Cellar",  "Chimney",  "Blanket",  "Pillow",   "Jacket",
    "Helmet",  "Basket",  "Bucket",  "Needle",  "Thread",   "Ribbon",   "Feather",  "Pepper",
    "Sugar",   "Coffee",  "Pumpkin", "Carrot",  "Potato",   "Tomato",   "Onion",    "Mushroom",
    "Chicken", "Turkey",  "Salmon",  "Whale",   "Dolphin",  "Turtle",   "Lizard",   "Snake",
    "Beetle",  "Pigeon",  "Parrot",  "Penguin", "Camel",    "Elephant", "Giraffe",  "Kangaroo",
    "Leopard", "Panther", "Wolf",    "Bear",    "Horse",    "Sheep",    "Goat",     "Cow",
    "Pig",     "Dog",     "Cat",     "Mouse",   "Lamp",     "Clock",    "Phone",    "Camera",
    "Radio",   "Piano",   "Guitar",  "Drum",    "Trumpet",  "Flute",    "Book",     "Letter",
    "Paper",   "Stamp",   "Coin",    "Wallet",  "Ticket",   "Map",      "Compass",  "Anchor",
    "Sail",    "Rope",    "Boat",    "Train",   "Truck",    "Bicycle",  "Wheel",    "Motor",
    "Brake",   "Cabin",   "Tent",    "Fire",    "Smoke",    "Ash",      "Stone",    "Sand",
    "Clay",    "Brick",   "Marble",  "Glass",   "Steel",    "Iron",     "Gold",     "Diamond",
    "Pearl",   "Ruby",    "Crystal", "Ice",     "Snow",     "Rain",     "Storm",    "Thunder",
    "Cloud",   "Sun",     "Moon",    "Star",    "Comet",    "Ocean",    "Lake",     "Pond",
    "Swamp",   "Beach",   "Cliff",   "Cave",    "Hill",     "Field",    "Meadow",   "Farm",
    "Barn",    "Fence",   "Gate",    "Road",    "Path",     "Street",   "Tower",    "Wall",
    "Roof",    "Door",    "Floor",   "Stair",   "Attic"};

/// "The tired baker bought three apples near the barn".
inline constexpr std::array<std::string_view, 16> qualities{
    "angry", "brave",  "calm", "clever",  "famous", "gentle", "happy", "honest",
    "kind",  "lonely", "old",  "patient", "proud",  "quiet",  "tired", "young"};
inline constexpr std::array<std::string_view, 16> people{
    "actor",  "artist", "baker",  "captain", "doctor",  "driver", "farmer", "guard",
    "hunter", "judge",  "lawyer", "nurse",   "painter", "pilot",  "sailor", "teacher"};
inline constexpr std::array<std::string_view, 16> deeds{
    "bought", "broke", "carried", "cleaned", "counted", "found", "gave away", "hid",
    "kept",   "left",  "lost",    "moved",   "painted", "sold",  "stole",     "washed"};
inline constexpr std::array<std::string_view, 8> counts{"two", "three", "four",  "five",
                                                        "six", "seven", "eight", "nine"};
inline constexpr std::array<std::string_view, 16> things{
    "apples", "baskets", "bells", "books", "bottles", "boxes",   "candles", "chairs",
    "clocks", "coats",   "cups",  "hats",  "lamps",   "letters", "maps",    "stones"};
inline constexpr std::array<std::string_view, 16> places{
    "barn",   "beach", "bridge", "castle", "cave", "church",  "farm",   "forest",
    "garden", "hill",  "hotel",  "island", "lake", "library", "market", "school"};

/// Words of one kind each, for Task::fewshot.
inline constexpr std::array<std::array<std::string_view, 48>, 4> kinds{{
    {"horse",    "dog",      "cat",    "cow",    "sheep", "goat",    "pig",    "lion",
     "tiger",    "bear",     "wolf",   "fox",    "deer",  "rabbit",  "mouse",  "rat",
     "elephant", "monkey",   "camel",  "donkey", "zebra", "giraffe", "whale",  "dolphin",
     "shark",    "eagle",    "hawk",   "owl",    "crow",  "duck",    "goose",  "swan",
     "turkey",   "chicken",  "snake",  "lizard", "frog",  "turtle",  "spider", "ant",
     "bee",      "squirrel", "beaver", "otter",  "seal",  "penguin", "parrot", "kangaroo"},
    {"France",    "Germany",   "Italy",   "Spain",    "Portugal", "Greece",     "Turkey",
     "Poland",    "Russia",    "China",   "Japan",    "India",    "Brazil",     "Chile",
     "Peru",      "Mexico",    "Canada",  "Egypt",    "Kenya",    "Nigeria",    "Ghana",
     "Morocco",   "Iran",      "Iraq",    "Israel",   "Jordan",   "Vietnam",    "Thailand",
     "Indonesia", "Australia", "Norway",  "Sweden",   "Finland",  "Denmark",    "Ireland",
     "Austria",   "Hungary",   "Romania", "Bulgaria", "Ukraine",  "Cuba",       "Argentina",
     "Colombia",  "Pakistan",  "Nepal",   "Iceland",  "Belgium",  "Switzerland"},
    {"bread",  "cheese", "butter",  "milk",      "rice",    "soup",    "salad",    "cake",
     "pie",    "pizza",  "pasta",   "sugar",     "salt",    "honey",   "jam",      "apple",
     "banana", "orange", "lemon",   "grape",     "peach",   "cherry",  "potato",   "tomato",
     "onion",  "carrot", "garlic",  "pepper",    "corn",    "bean",    "nut",      "steak",
     "bacon",  "ham",    "sausage", "chocolate", "cookie",  "yogurt",  "cream",    "tea",
     "coffee", "juice",  "wine",    "beer",      "cabbage", "spinach", "mushroom", "strawberry"},
    {"hammer", "saw",     "drill",  "screwdriver", "wrench",   "knife",   "scissors", "needle",
     "rope",   "ladder",  "bucket", "broom",       "shovel",   "rake",    "axe",      "nail",
     "screw",  "pliers",  "brush",  "sponge",      "lamp",     "clock",   "mirror",   "table",
     "chair",  "sofa",    "bed",    "shelf",       "door",     "window",  "carpet",   "curtain",
     "pillow", "blanket", "oven",   "kettle",      "spoon",    "fork",    "plate",    "bowl",
     "bottle", "radio",   "camera", "telephone",   "computer", "printer", "pencil",   "umbrella"},
}};
inline constexpr std::array<std::string_view, 8> colours{"red",   "blue",   "green", "yellow",
                                                         "black", "purple", "white", "pink"};

}  // namespace accuracy::words
