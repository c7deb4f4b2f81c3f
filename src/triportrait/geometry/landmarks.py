"""MediaPipe's 478 face landmarks by name, and some of the classic 68. "Left" and "right" are the subject's own.

The first 468 lie on the skin. The irises follow, the subject's left before the right, each a centre and four points of its rim. Of the 68
(iBUG), 0 to 16 follow the jaw from the subject's right ear to the left one, 48 to 59 the outer and 60 to 67 the inner lips.
"""

from __future__ import annotations

import numpy as np

LIPS = np.array([61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409,
                 78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415])  # fmt: skip
#: Edges of the lids from the outer corner along the lower lid and back along the upper one; places of four points in them.
EYE_RIGHT_RIM = np.array([33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246])
EYE_LEFT_RIM = np.array([263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466])
RIM_OUTER_CORNER, RIM_LOWER_MIDDLE, RIM_INNER_CORNER, RIM_UPPER_MIDDLE = 0, 4, 8, 12
OVAL = np.array([10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149,
                 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109])  # fmt: skip
#: Upper and lower partner of the inner lips and of the lids: their differences are fitted too, so that closed stays closed.
LIP_PAIRS = np.array([[13, 14], [82, 87], [312, 317], [81, 178], [311, 402], [80, 88], [310, 318]])
LID_PAIRS = np.array([[159, 145], [158, 153], [160, 144], [386, 374], [385, 380], [387, 373]])
#: Contour of the inner lips, in order round the mouth's opening.
INNER_LIPS = np.array([78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95])
#: Contour of the outer lips, in order.
OUTER_LIPS = np.array([61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146])
#: Margins of the upper lids from outer to inner corner.
UPPER_LID_LEFT = np.array([263, 466, 388, 387, 386, 385, 384, 398, 362])
UPPER_LID_RIGHT = np.array([33, 246, 161, 160, 159, 158, 157, 173, 133])
#: Lower edge of a brow from its outer to its inner end, then the upper edge.
BROW_RIGHT = np.array([46, 53, 52, 65, 55, 70, 63, 105, 66, 107])
BROW_LEFT = np.array([276, 283, 282, 295, 285, 300, 293, 334, 296, 336])
#: Centres of the irises, subject's left first; each is followed by four points of its rim.
IRIS_CENTRES = (473, 468)
#: So many points lie on the face; the ten after them are the irises'.
FACE_POINTS, ALL_POINTS = 468, 478
#: Single points.
FOREHEAD_TOP, BETWEEN_BROWS, NOSE_TIP, CHIN = 10, 9, 4, 152
#: Corners of the eyes, outer and inner.
EYE_RIGHT_CORNERS, EYE_LEFT_CORNERS = (33, 133), (263, 362)
#: The nose's ridge from its root between the eyes; its tip follows.
NOSE_RIDGE = (168, 6, 197, 195, 5)
NOSE_ROOT, NOSE_BRIDGE = NOSE_RIDGE[:2]
#: Down the middle of the forehead from its top to between the brows, and points aside of that, right and left by turns.
FOREHEAD_MIDDLE, FOREHEAD_SIDES = (10, 151, 9), (108, 337, 69, 299)
#: Temples, right and left, at the height of the eyes.
TEMPLES = (127, 356)
#: Where the face's outline passes the ears, right and left.
OVAL_SIDES = (234, 454)
#: Cheeks, right and left: their middles, and below these beside the nose's wings.
CHEEKS, LOWER_CHEEKS = (50, 280), (205, 425)
#: Cheeks under the eyes, right and left, nearer to the nose.
UPPER_CHEEKS = (101, 330)
#: Middles of the lips, at the mouth's opening and at the lips' outer rims.
UPPER_LIP_INSIDE, LOWER_LIP_INSIDE, UPPER_LIP_RIM, LOWER_LIP_RIM = 13, 14, 0, 17
#: Corners of the mouth, right and left: of the inner and of the outer contour of the lips.
INNER_MOUTH_CORNERS, OUTER_MOUTH_CORNERS = (78, 308), (61, 291)
#: Angles of the jaw, right and left, and the cheeks beside the ears.
JAW_ANGLES, CHEEK_SIDES = (172, 397), (234, 454)
#: Of the 68 landmarks: the ends of the jaw's line beside the ears, the chin, and the middles of the lips at the mouth's opening.
JAW_ENDS_OF_68, CHIN_OF_68, LIPS_INSIDE_OF_68 = (0, 16), 8, (62, 66)
