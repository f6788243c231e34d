"`python train.py …` is the console script `imagenet_train`."
from imagenet_nb.cli import train_command
if __name__ == '__main__': train_command()
