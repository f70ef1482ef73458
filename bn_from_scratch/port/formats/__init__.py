"""A module per file format, each with the same functions; .npz is only read.

read(path)                  -> Content; ValueError with what is wrong with the file
write(path, content)        in the framework's own words and layout
save_model(trainer, path)   what the framework itself writes of a trained model
"""
