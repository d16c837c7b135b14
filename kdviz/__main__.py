"""`python -m kdviz`, so that torchrun can start the command line."""

from kdviz.cli.app import main

if __name__ == "__main__":
    main()
