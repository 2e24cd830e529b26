"""The pose skill: named keypoints of any class of object, behind the routing token `[POSE]`."""
