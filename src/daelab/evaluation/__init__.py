"""Scores of denoised images: metrics, confidence intervals, and macro F1 by classifiers.

Modules:

    metrics       the table of all metrics; MSE, PSNR and SSIM as pure functions; bootstrap intervals
    f1            macro F1, confusion matrices, recovered F1; NumPy alone
    evaluate      the evaluation of a denoiser on a data set under a noise
    classifiers/  classifiers of daelab, of the paper, and of the user
"""
