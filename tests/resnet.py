"""ResNet-18 in PyTorch (He, Zhang, Ren and Sun 2016), as narrow as wanted."""

import itertools

from torch import nn


class Block(nn.Module):
    """Two convolutions and a way past them.  [N, C, H, W] -> [N, channels, *, *]."""

    def __init__(self, in_channels, channels, stride, norm):
        super().__init__()
        kernel = {"kernel_size": 3, "padding": 1, "bias": False}
        self.conv1 = nn.Conv2d(in_channels, channels, stride=stride, **kernel)
        self.bn1 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, **kernel)
        self.bn2 = norm(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or in_channels != channels:
            conv = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, norm(channels))

    def forward(self, X):
        past = X if self.downsample is None else self.downsample(X)
        Y = self.relu(self.bn1(self.conv1(X)))
        return self.relu(self.bn2(self.conv2(Y)) + past)


class ResNet18(nn.Module):
    """[N, 3, H, W] -> [N, classes] logits."""

    def __init__(self, classes=10, width=64, norm=nn.BatchNorm2d):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        sizes = [width, width, 2 * width, 4 * width, 8 * width]
        for i, (before, after) in enumerate(itertools.pairwise(sizes), 1):
            first = Block(before, after, 1 if i == 1 else 2, norm)
            layers = nn.Sequential(first, Block(after, after, 1, norm))
            setattr(self, f"layer{i}", layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width, classes)

    def forward(self, X):
        X = self.maxpool(self.relu(self.bn1(self.conv1(X))))
        X = self.layer4(self.layer3(self.layer2(self.layer1(X))))
        return self.fc(self.avgpool(X).flatten(1))
