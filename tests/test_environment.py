from importlib.metadata import version


def test_the_two_opencv_packages_are_of_one_version():
    # albumentations asks for opencv-python-headless, which writes into the same folder as opencv-python.
    assert version("opencv-python") == version("opencv-python-headless")
